"""Which requests may be answered from the cache, and which answers may be kept."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_app.policy import LONGEST_TTL_S, CacheUse, Directives, Rules, bypass, decide, read_directives

RULES = Rules(enabled=True, ttl_s=60)
DETERMINISTIC = Rules(enabled=True, ttl_s=60, policy="deterministic")
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CACHED = ["chat/completions", "completions", "embeddings", "moderations", "responses"]


def decided(operation="chat/completions", directives=None, rules=RULES, **fields) -> CacheUse:
    values = msgspec.json.decode(json.dumps({"model": "m"} | fields), type=dict[str, msgspec.Raw])
    return decide(operation, values, directives, rules)


def spelled(value: str, key: str = "temperature", operation="chat/completions") -> str:
    values = {key: msgspec.Raw(value.encode())}
    return decide(operation, values, None, DETERMINISTIC).reason


@pytest.mark.parametrize("operation", CACHED)
def test_an_ordinary_request_reads_and_writes(operation):
    assert decided(operation) == CacheUse(read=True, write=True, ttl_s=60, reason="")


@pytest.mark.parametrize("operation", ["responses/compact", "responses/input_tokens", "responses/resp_1", "models", ""])
def test_other_routes_are_not_cached(operation):
    assert decided(operation) == bypass("route")


def test_a_group_without_cache():
    assert decided(rules=Rules(enabled=False, ttl_s=60)) == bypass("disabled")


# -- what the client says


def test_no_cache_neither_reads_nor_writes():
    assert decided(directives=Directives(no_cache=True, ttl_s=5)) == bypass("no_cache")


def test_no_store_reads_and_does_not_write():
    use = decided(directives=Directives(no_store=True))
    assert (use.read, use.write, use.reason) == (True, False, "no_store")


def test_a_ttl_is_obeyed():
    assert decided(directives=Directives(ttl_s=5)) == CacheUse(True, True, 5, "")


@pytest.mark.parametrize(
    ("header", "directives"),
    [
        (b"no-cache", Directives(no_cache=True)),
        (b"No-Cache", Directives(no_cache=True)),
        (b"max-age=0 ,\tNO-STORE", Directives(no_store=True)),
        (b"no-cache, no-store", Directives(no_cache=True, no_store=True)),
        (b"", None),
        (b"max-age=0", None),
        (b"no-cache=x", None),
        (b"x-no-cache", None),
        (b"only-if-cached", None),
        (b"no_cache", None),
        (b"\xff,,;", None),
    ],
)
def test_the_cache_control_header(header, directives):
    assert read_directives(header) == directives


@pytest.mark.parametrize(
    ("wish", "directives"),
    [
        ('{"no-cache":true}', Directives(no_cache=True)),
        ('{ "no-store" : true }', Directives(no_store=True)),
        ('{"no-cache":true,"no-store":true,"ttl":7}', Directives(True, True, 7)),
        ('{"ttl":60}', Directives(ttl_s=60)),
        ('{"ttl":60.0}', Directives(ttl_s=60)),
        ('{"ttl":6e1}', Directives(ttl_s=60)),
        ('{"ttl":0.2}', Directives(ttl_s=1)),
        ('{"ttl":1e400}', Directives(ttl_s=LONGEST_TTL_S)),
        ('{"ttl":999999999999}', Directives(ttl_s=LONGEST_TTL_S)),
        ('{"ttl":0,"no-store":true}', Directives(no_store=True)),
        ('{"ttl":"x","no-cache":true,"other":[1]}', Directives(no_cache=True)),
    ],
)
def test_the_cache_member(wish, directives):
    assert read_directives(b"", wish.encode()) == directives


@pytest.mark.parametrize(
    "wish",
    ["{}", "null", "true", "[]", '"no-cache"', "7", '{"no-cache":false}', '{"no-cache":1}', '{"no-cache":"true"}',
     '{"no-cache":null}', '{"no_cache":true}', '{"No-Cache":true}', '{"ttl":0}', '{"ttl":-1}', '{"ttl":"60"}',
     '{"ttl":true}', '{"ttl":null}', '{"ttl":[60]}', '{"ttl":0.0}', '{"ttl":' + "9" * 10_000 + "}", '{"use-cache":true}'],
)  # fmt: skip
def test_any_other_value_is_ignored(wish):
    assert read_directives(b"", wish.encode()) is None


def test_all_that_is_said_counts():
    assert read_directives(b"no-store", b'{"ttl":5}', b'{"ttl":9,"no-cache":true}') == Directives(True, True, 5)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_noise_says_nothing(header, wish):
    if b"no-" not in header.lower() and b"ttl" not in wish and b"no-" not in wish:
        assert read_directives(header, wish) is None


# -- what is more than an answer


@pytest.mark.parametrize(
    ("operation", "fields", "reason"),
    [
        ("responses", {"background": True}, "background"),
        ("responses", {"conversation": "conv_1"}, "conversation"),
        ("responses", {"conversation": {"id": "conv_1"}}, "conversation"),
        ("responses", {"prompt": {"id": "pmpt_1"}}, "stored_prompt"),
        ("chat/completions", {"store": True}, "store"),
        ("chat/completions", {"web_search_options": {}}, "hosted_tool"),
    ],
)
def test_requests_that_are_not_cached(operation, fields, reason):
    assert decided(operation, **fields) == bypass(reason)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("responses", {"background": False, "conversation": None, "prompt": None}),
        ("responses", {"store": True, "previous_response_id": "resp_1"}),
        ("chat/completions", {"store": False, "web_search_options": None, "tools": None}),
        ("completions", {"prompt": "Once upon a time"}),
        ("chat/completions", {"metadata": {"store": True, "background": True}}),
    ],
)
def test_requests_that_only_look_like_it(operation, fields):
    assert decided(operation, **fields).reason == ""


@pytest.mark.parametrize("operation", ["responses", "chat/completions"])
@pytest.mark.parametrize(
    "kind",
    ["mcp", "code_interpreter", "computer_use_preview", "web_search", "web_search_preview_2025_03_11", "file_search",
     "image_generation", "local_shell", "whatever_comes_next", "", None, 7],
)  # fmt: skip
def test_hosted_tools_are_not_cached(operation, kind):
    assert (
        decided(operation, tools=[FUNCTION, {"type": kind, "function": {"type": "function"}}]).reason == "hosted_tool"
    )


@pytest.mark.parametrize("tools", [[{}], [{"name": "f"}], ["function"], {"type": "function"}, "function", 7])
def test_what_is_no_list_of_tools_is_not_cached(tools):
    assert decided(tools=tools).reason == "hosted_tool"


@pytest.mark.parametrize(
    "tools",
    [
        [],
        [FUNCTION],
        [FUNCTION, {"type": "custom", "custom": {"name": "grep"}}],
        [{"type": "function", "name": "f", "description": '"type":"mcp"', "parameters": {"type": "mcp"}}],
    ],
)
def test_tools_that_the_client_runs_are_cached(tools):
    assert decided(tools=tools).reason == ""
    assert decided("responses", tools=tools).reason == ""


# -- deterministic


@pytest.mark.parametrize("zero", ["0", "0.0", "0.000", "-0", "-0.0", "0e0", "0E5", "0.0e-7", "0e+1"])
def test_temperature_zero_is_deterministic(zero):
    assert spelled(zero) == ""


@pytest.mark.parametrize("other", ["0.1", "1", "1e-400", "0.01", "null", '"0"', "false", "[]", "0e0.1"])
def test_another_temperature_is_not(other):
    assert spelled(other) == "not_deterministic"


@pytest.mark.parametrize(("seed", "reason"), [("7", ""), ("0", ""), ("-1", ""), ("1" * 40, ""), ("null", "not_deterministic"),
                                              ('"7"', "not_deterministic"), ("7.0", "not_deterministic"), ("true", "not_deterministic")])  # fmt: skip
def test_a_seed_that_is_an_integer_is_deterministic(seed, reason):
    assert spelled(seed, "seed") == reason


def test_nothing_said_is_not_deterministic():
    assert decided(rules=DETERMINISTIC) == bypass("not_deterministic")


def test_seeded_requests_are_cached_at_any_temperature():
    assert decided(rules=DETERMINISTIC, temperature=1, seed=7).reason == ""


@pytest.mark.parametrize("operation", ["embeddings", "moderations"])
def test_what_draws_nothing_by_lot_is_deterministic(operation):
    assert decided(operation, rules=DETERMINISTIC).reason == ""
