"""What one revision means for a worker: nearest settings, chains of groups, stable ids, safe headers."""

import pytest

from routing.config.table import header_safe
from tests.unit.tables import group_of, model, table_of


def test_the_nearest_setting_wins():
    own = model("own", connect_timeout=1, http_timeout=11)
    table = table_of(
        {"model_group": "m", "models": [own, model("plain")], "connect_timeout": 2, "cooldown_time": 22, "num_retries": 0},
        connect_timeout=3, http_timeout=33, idle_timeout=44, cooldown_time=55, num_retries=5, allowed_fails=4,
    )  # fmt: skip
    group = table.groups["m"]
    first, second = group.endpoints
    assert (first.timeouts.connect_s, first.timeouts.http_s, first.timeouts.idle_s) == (1, 11, 44)
    assert (second.timeouts.connect_s, second.timeouts.http_s, second.cooldown_s) == (2, 33, 22)
    assert (group.num_retries, first.allowed_fails) == (0, 4)


def chain(**fallbacks: list[str]) -> tuple[str, ...]:
    groups = [{"model_group": name, "fallbacks": others, "models": [model(name)]} for name, others in fallbacks.items()]
    return table_of(*groups).groups["a"].chain


@pytest.mark.parametrize(
    ("fallbacks", "expected"),
    [
        ({"a": []}, "a"),
        ({"a": ["b", "c"], "b": [], "c": []}, "abc"),
        ({"a": ["b", "c"], "b": ["d"], "c": [], "d": []}, "abdc"),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, "abdc"),
        ({"a": ["b"], "b": ["a"]}, "ab"),
    ],
)
def test_fallbacks_in_order_each_group_once(fallbacks, expected):
    assert "".join(chain(**fallbacks)) == expected


def test_ids_are_stable_and_differ_for_another_upstream():
    one = group_of(model("a")).endpoints[0]
    assert group_of(model("b"), model("a", weight=5, enabled=False)).endpoints[1].id == one.id
    moved = model("a", params={"base_url": "https://elsewhere.example/v1"})
    renamed = model("a") | {"model": "another-model"}
    assert len({one.id, group_of(moved).endpoints[0].id, group_of(renamed).endpoints[0].id}) == 3


def test_an_endpoint_whose_key_is_missing_has_no_target():
    (endpoint,) = group_of(model("a", params={"api_key": "os.environ/NOT_SET"})).endpoints
    assert endpoint.missing == ("os.environ/NOT_SET",)
    assert (endpoint.provider, dict(endpoint.targets)) == (None, {})
    with pytest.raises(ValueError, match="misconfigured"):
        endpoint.target("POST", "chat/completions")


def test_why_an_endpoint_is_misconfigured_is_told_in_words():
    params = {"api_key": "stored:0123456789abcdef", "default_query": {"a": "os.environ/A", "b": "os.environ/B"}}
    (endpoint,) = group_of(model("a", params=params)).endpoints
    unset, lost = endpoint.trouble.split("; ", 1)
    assert unset == "no value for os.environ/A, os.environ/B"
    assert lost.startswith("stored:0123456789abcdef: cannot be decrypted: LLMPROXY_ENCRYPTION_KEYS lacks")


def test_an_endpoint_without_trouble_has_no_words_for_it():
    assert group_of(model("a")).endpoints[0].trouble == ""


def test_keys_are_not_shown():
    endpoint = group_of(model("a")).endpoints[0]
    assert "sk-key-of-a" not in repr(endpoint)


def test_fixed_targets_are_what_the_provider_would_build():
    endpoint = group_of(model("a", params={"default_query": {"x": "1"}})).endpoints[0]
    for operation, target in endpoint.targets.items():
        assert target == endpoint.provider.target("POST", operation)
        assert endpoint.target("POST", operation) is target
    assert endpoint.target("GET", "responses/r", "stream=true").path == "/v1/responses/r?x=1&stream=true"


@pytest.mark.parametrize(
    ("name", "header"),
    [("azure-east", b"azure-east"), ("a b", b"a b"), ("a\r\nx: y", b"a%0D%0Ax: y"), ("ü", b"%C3%BC"), ("a\0", b"a%00"),
     ("org/m@1", b"org/m@1")],
)  # fmt: skip
def test_names_in_headers(name, header):
    assert header_safe(name) == header
