"""Every path of the contract, with and without /v1, and nothing else."""

import pytest

from routing.openai.routes import find, serves

GENERATE = ["chat/completions", "responses", "embeddings", "completions", "moderations", "responses/compact",
            "responses/input_tokens"]  # fmt: skip
ITEMS = [
    ("responses/resp_1", {"GET", "DELETE"}, "responses/{id}"),
    ("responses/resp_1/cancel", {"POST"}, "responses/{id}/cancel"),
    ("responses/resp_1/input_items", {"GET"}, "responses/{id}/input_items"),
]


@pytest.mark.parametrize("prefix", ["/", "/v1/"])
@pytest.mark.parametrize("path", GENERATE)
def test_routes_with_a_body(prefix, path):
    methods = find(prefix + path)
    assert set(methods) == {"POST"}
    assert (methods["POST"].route.operation, methods["POST"].route.kind) == (path, "generate")


@pytest.mark.parametrize("prefix", ["/", "/v1/"])
@pytest.mark.parametrize(("path", "allowed", "operation"), ITEMS)
def test_routes_of_a_stored_response(prefix, path, allowed, operation):
    methods = find(prefix + path)
    assert set(methods) == allowed
    for match in methods.values():
        assert (match.route.operation, match.route.kind, match.item) == (operation, "item", "resp_1")


@pytest.mark.parametrize("prefix", ["/", "/v1/"])
@pytest.mark.parametrize("name", ["gpt-4o", "org/model", "a/b/c", "ünïcode", "with space", "models", "a?b"])
def test_model_ids_may_hold_slashes(prefix, name):
    methods = find(f"{prefix}models/{name}")
    assert set(methods) == {"GET"}
    assert methods["GET"].item == name


@pytest.mark.parametrize("prefix", ["/", "/v1/"])
def test_the_list_of_models(prefix):
    methods = find(prefix + "models")
    assert set(methods) == {"GET"}
    assert (methods["GET"].route.kind, methods["GET"].item) == ("models", "")


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v1/", "/v1/unknown", "/v2/chat/completions", "/v1/v1/chat/completions", "/chat", "/v1/chat",
     "/v1/chat/completions/", "/V1/chat/completions", "/v1/Chat/completions", "//v1/chat/completions", "/v1//responses",
     "/v1/responses/", "/v1/responses//cancel", "/v1/responses/a/b", "/v1/responses/a/cancel/", "/v1/models/",
     "/v1/responses/a/delete", "/health", "/stats", "/admin/", "/v1/chat/completions\n"],
)  # fmt: skip
def test_other_paths_are_not_found(path):
    assert find(path) is None


@pytest.mark.parametrize(
    "path", ["/v1/unknown", "/v1/chat/completions", "/responses/a/b", "/models/", "/chat/completions"]
)
def test_paths_whose_errors_have_the_shape_of_openai(path):
    assert serves(path)


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/stats", "/admin/", "/docs", "/metrics", "/static/x.js", "/"]
)
def test_operators_paths_are_djangos(path):
    assert not serves(path)


@pytest.mark.parametrize("path", ["compact", "input_tokens"])
def test_fixed_words_are_no_response_ids(path):
    assert set(find(f"/v1/responses/{path}")) == {"POST"}


def test_only_streams_of_chat_completions_and_responses_are_known():
    kinds = {path: find("/v1/" + path)["POST"].route.events for path in GENERATE}
    assert kinds.pop("chat/completions") == kinds.pop("completions") == "chat"
    assert kinds.pop("responses") == "responses"
    assert set(kinds.values()) == {"none"}
