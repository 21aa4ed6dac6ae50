import socket
from pathlib import Path

import pytest

from llmproxy_site import store
from llmproxy_site.environment import Environment, EnvironmentProblem
from llmproxy_site.store import StoreAddress, cache_url, find_store, require_private, socket_path
from routing.config.schema import GeneralSettings

BINARY = Path("/opt/valkey-server")


@pytest.fixture(autouse=True)
def binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "embedded_binary", lambda: BINARY)


def environment(**given: object) -> Environment:
    return Environment(data_dir=Path("/data"), redis_url=None).model_copy(update=given)


def test_the_environment_beats_the_configuration():
    found = find_store(environment(redis_url="redis://one"), GeneralSettings(redis_url="redis://two"))
    assert (found.kind, found.url) == ("given", "redis://one")


def test_the_configurations_url_beats_its_host():
    found = find_store(environment(), GeneralSettings(redis_url="redis://two", redis_host="three"))
    assert found.url == "redis://two"


def test_host_port_and_password_become_a_url():
    general = GeneralSettings(redis_host="cache.example", redis_port=6380, redis_password="p@ss/word")
    assert find_store(environment(), general).url == "redis://:p%40ss%2Fword@cache.example:6380"


def test_an_ipv6_host_gets_brackets():
    assert find_store(environment(), GeneralSettings(redis_host="fd00::1")).url == "redis://[fd00::1]:6379"


@pytest.mark.parametrize("rule", ["required", "optional", "none"])
def test_tls_carries_the_rule_for_certificates(rule):
    general = GeneralSettings(redis_host="h", redis_ssl=True, redis_ssl_cert_reqs=rule)
    assert find_store(environment(), general).url == f"rediss://h:6379?ssl_cert_reqs={rule}"


def test_a_url_that_says_its_own_rule_keeps_it():
    general = GeneralSettings(redis_ssl_cert_reqs="required")
    found = find_store(environment(redis_url="rediss://h:1/2?ssl_cert_reqs=none"), general)
    assert found.url == "rediss://h:1/2?ssl_cert_reqs=none"


def test_without_an_address_the_store_is_embedded_under_the_data_directory():
    assert find_store(environment(), GeneralSettings()) == StoreAddress("embedded", "unix:///data/store.sock")


def test_without_a_binary_the_store_is_in_process(monkeypatch):
    monkeypatch.setattr(store, "embedded_binary", lambda: None)
    assert find_store(environment(), GeneralSettings()).kind == "in_process"
    assert cache_url(environment()) is None


def test_an_address_is_shown_without_its_password():
    address = StoreAddress("given", "rediss://user:hunter2@host:1/2?password=hunter2")
    assert str(address) == "rediss://host:1/2"
    assert "hunter2" not in repr(address)


def test_a_long_data_directory_gets_a_short_socket_path(tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    path = socket_path(deep)
    assert path == socket_path(deep)
    assert path != socket_path(deep / "other")
    require_private(path.parent)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    path.unlink()
    path.parent.rmdir()


def test_a_socket_directory_that_others_may_enter_is_refused(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(EnvironmentProblem, match="not a private directory"):
        require_private(tmp_path / "open")


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(EnvironmentProblem, match="not a private directory"):
        require_private(tmp_path / "link")
