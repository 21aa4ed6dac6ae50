"""What counts as a secret where anything may stand."""

import pytest

from routing.config.secrecy import has_password, is_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "x"),
        ("X-Api-Key", "x"),
        ("Cookie", "x"),
        ("code", "x"),
        ("sig", "x"),
        ("X-Team", "Bearer sk-1"),
        ("X-Team", "basic dXNlcjpwdw=="),
    ],
)
def test_a_secret_by_name_or_by_scheme(name, value):
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-team", "blue"),
        ("x-code-name", "blue"),
        ("x-team", "bearers"),
        ("authorization", ""),
        ("authorization", "os.environ/TOKEN"),
        ("authorization", "stored:0123456789abcdef"),
        ("api-key", 5),
    ],
)
def test_no_secret(name, value):
    assert not is_secret(name, value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pw@h",
        "redis://user@h",
        "redis://h?password=pw",
        "unix:///s?db=1&Password=pw",
        "redis://h?p%61ssword=pw",
        "redis://[h?password=pw",
    ],
)
def test_a_url_with_a_password(url):
    assert has_password(url)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h?ssl_cert_reqs=none", "os.environ/URL", "unix:///s.sock"])
def test_a_url_without_a_password(url):
    assert not has_password(url)
