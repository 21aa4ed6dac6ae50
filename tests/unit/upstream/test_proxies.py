import pytest

from routing.upstream.proxies import proxy_for
from routing.upstream.transport import Origin

API = Origin("https", "api.example.com", 443)
PROXY = "http://proxy:3128"


def https(host: str, port: int = 443) -> Origin:
    return Origin("https", host, port)


@pytest.mark.parametrize(
    "variables, proxy",
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": "proxy:3128"}, PROXY),
        ({"HTTPS_PROXY": " http://proxy:3128 "}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"ALL_PROXY": "socks5://p:1080"}, "socks5://p:1080"),
        ({"ALL_PROXY": "http://all", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
    ],
)
def test_variable_of_the_scheme_names_the_proxy(variables, proxy):
    assert proxy_for(API, variables) == proxy


def test_http_proxy_in_upper_case_is_not_read_under_cgi():
    plain = Origin("http", "api.example.com", 80)

    assert proxy_for(plain, {"HTTP_PROXY": PROXY}) == PROXY
    assert proxy_for(plain, {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "POST"}) is None
    assert proxy_for(plain, {"http_proxy": PROXY, "REQUEST_METHOD": "POST"}) == PROXY


@pytest.mark.parametrize(
    "origin, no_proxy, direct",
    [
        (API, "api.example.com", True),
        (API, "API.Example.COM", True),
        (API, "example.com", True),
        (API, ".example.com", True),
        (API, "*.example.com", True),
        (API, "ample.com", False),
        (API, "example.com.evil.org", False),
        (API, "other.org, example.com", True),
        (API, "other.org example.com", True),
        (API, "example.com:443", True),
        (API, "example.com:8443", False),
        (API, "", False),
        (API, ",,", False),
        (https("example.com"), ".example.com", True),
        (https("api.example.com."), "example.com", True),
        (https("127.0.0.1", 8443), "127.0.0.1", True),
        (https("127.0.0.1", 8443), "127.0.0.1:8443", True),
        (https("127.0.0.1", 8443), "127.0.0.1:443", False),
        (https("10.1.2.3"), "10.0.0.0/8", True),
        (https("11.1.2.3"), "10.0.0.0/8", False),
        (https("10.1.2.3"), "2.3", False),
        (https("::1"), "::1", True),
        (https("::1"), "[::1]", True),
        (https("::1"), "[::1]:443", True),
        (https("::1"), "[::1]:80", False),
        (https("fd00::1"), "fd00::/8", True),
        (https("localhost"), "127.0.0.1", False),
    ],
)
def test_no_proxy_excepts(origin, no_proxy, direct):
    variables = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}

    assert proxy_for(origin, variables) == (None if direct else PROXY)
