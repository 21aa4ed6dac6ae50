import pytest

from llmproxy_site.server import BindProblem, bound_socket, is_loopback
from llmproxy_site.start import StartRefused, refuse_public_bind
from routing.config.schema import GeneralSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_addresses_are_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_all_others_are_public(host):
    assert not is_loopback(host)


def test_a_public_bind_is_refused_with_the_remedy():
    with pytest.raises(StartRefused, match=r"Bind to 127\.0\.0\.1, or set client_auth: off"):
        refuse_public_bind("0.0.0.0", GeneralSettings(), pytest.fail)


def test_a_public_bind_without_client_keys_starts_with_a_warning_where_it_is_wanted():
    warnings: list[str] = []
    refuse_public_bind("0.0.0.0", GeneralSettings(client_auth="off"), warnings.append)
    assert len(warnings) == 1
    assert "client_auth: off" in warnings[0]


def test_an_unknown_host_names_the_remedy():
    with pytest.raises(BindProblem, match="write an address of this machine"):
        bound_socket("no.such.host.invalid", 0)


def test_a_port_in_use_names_the_remedy():
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(BindProblem, match="choose another --port"):
            bound_socket("127.0.0.1", taken.getsockname()[1])
