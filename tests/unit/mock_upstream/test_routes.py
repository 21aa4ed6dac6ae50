"""The mock's answers, without a socket."""

import json
from typing import Any

import pytest

from routing.mock_upstream.answer import Answer, pieces
from routing.mock_upstream.routes import Routes

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi there"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["C", "F"]},
                "tags": {"type": "array", "items": {"type": "boolean"}},
            },
        },
    },
}


def post(path: str, value: Any, *, events: int = 0) -> Answer:
    return Routes("mock", events).answer(b"POST", path.encode(), json.dumps(value).encode())


def data(answer: Answer) -> list[Any]:
    """The JSON of each event but [DONE]."""
    lines = b"".join(answer.events or []).decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_equal_questions_get_equal_answers() -> None:
    assert post("/v1/chat/completions", CHAT) == post("/v1/chat/completions", CHAT)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions?api-version=preview",
        "/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ],
)
def test_every_style_of_url(path: str) -> None:
    assert json.loads(post(path, CHAT).body)["object"] == "chat.completion"


def test_a_stream_says_what_the_json_says() -> None:
    whole = json.loads(post("/v1/chat/completions", CHAT).body)["choices"][0]["message"]["content"]
    told = data(post("/v1/chat/completions", CHAT | {"stream": True}))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told) == whole
    assert [chunk["choices"][0]["finish_reason"] for chunk in told if chunk["choices"]][-1] == "stop"


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_in_a_stream_only_where_asked_for(wanted: bool) -> None:
    told = data(post("/v1/chat/completions", CHAT | {"stream": True, "stream_options": {"include_usage": wanted}}))
    assert ("usage" in told[-1] and told[-1]["choices"] == []) is wanted


@pytest.mark.parametrize(
    ("path", "asked"), [("chat/completions", CHAT), ("completions", {"model": "m", "prompt": "Hi"})]
)
def test_a_stream_that_tells_its_usage_says_null_before(path: str, asked: dict[str, Any]) -> None:
    """As OpenAI's does."""
    *chunks, last = data(post(f"/v1/{path}", asked | {"stream": True, "stream_options": {"include_usage": True}}))
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert (last["choices"], last["usage"]["prompt_tokens"] > 0) == ([], True)


@pytest.mark.parametrize("events", [1, 3, 50])
def test_as_many_content_events_as_asked_for(events: int) -> None:
    told = data(post("/v1/chat/completions", CHAT | {"stream": True}, events=events))
    assert len([chunk for chunk in told if "role" not in chunk["choices"][0]["delta"]]) == events + 1


def test_words_add_up_to_the_text() -> None:
    text = " two  spaces\nand a line "
    assert "".join(pieces(text, 0)).strip() == text.strip()


def test_a_tool_is_called_with_arguments_that_fit_its_schema() -> None:
    (choice,) = json.loads(post("/v1/chat/completions", CHAT | {"tools": [TOOL]}).body)["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Hi there", "days": 1, "unit": "C", "tags": [True]}
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("choice", ["none", {"type": "function", "function": {"name": "other"}}])
def test_no_tool_is_called_where_none_is_wanted(choice: object) -> None:
    answer = json.loads(post("/v1/chat/completions", CHAT | {"tools": [TOOL], "tool_choice": choice}).body)
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_response_is_kept_continued_and_deleted() -> None:
    routes = Routes("mock", 0)
    made = json.loads(routes.answer(b"POST", b"/v1/responses", b'{"model":"m","input":"Hi"}').body)
    path = f"/v1/responses/{made['id']}".encode()
    assert json.loads(routes.answer(b"GET", path, b"").body) == made
    again = {"model": "m", "input": "And?", "previous_response_id": made["id"]}
    assert routes.answer(b"POST", b"/v1/responses", json.dumps(again).encode()).status == 200
    assert json.loads(routes.answer(b"DELETE", path, b"").body)["deleted"] is True
    assert routes.answer(b"GET", path, b"").status == 404
    refused = routes.answer(b"POST", b"/v1/responses", json.dumps(again).encode())
    assert json.loads(refused.body)["error"]["code"] == "previous_response_not_found"


def test_what_is_not_to_be_stored_is_not() -> None:
    routes = Routes("mock", 0)
    made = json.loads(routes.answer(b"POST", b"/v1/responses", b'{"model":"m","input":"x","store":false}').body)
    assert routes.answer(b"GET", f"/v1/responses/{made['id']}".encode(), b"").status == 404


def test_another_mocks_encrypted_items_are_refused() -> None:
    asked = {"model": "m", "input": "x", "include": ["reasoning.encrypted_content"]}
    made = json.loads(Routes("one", 0).answer(b"POST", b"/v1/responses", json.dumps(asked).encode()).body)
    body = json.dumps({"model": "m", "input": made["output"]}).encode()
    assert Routes("one", 0).answer(b"POST", b"/v1/responses", body).status == 200
    assert Routes("two", 0).answer(b"POST", b"/v1/responses", body).status == 400


@pytest.mark.parametrize("value", ["x", ["x"], [1, 2], [[1], [2]]])
def test_every_kind_of_input_is_embedded(value: object) -> None:
    made = json.loads(post("/v1/embeddings", {"model": "m", "input": value}).body)["data"]
    assert len(made) == (2 if value == [[1], [2]] else 1)
    assert sum(number**2 for number in made[0]["embedding"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        (b"POST", b"/v1/chat/completions", b"{", 400),
        (b"POST", b"/v1/chat/completions", b'{"model":"m"}', 400),
        (b"POST", b"/v1/chat/completions", b'{"model":"m","messages":[]}', 400),
        (b"GET", b"/v1/chat/completions", b"", 405),
        (b"POST", b"/v1/models", b"", 405),
        (b"GET", b"/v1/models/none", b"", 404),
        (b"GET", b"/v1/nothing", b"", 404),
        (b"PATCH", b"/v1/responses/resp_1", b"", 405),
    ],
)
def test_what_is_refused(method: bytes, path: bytes, body: bytes, status: int) -> None:
    answer = Routes("mock", 0).answer(method, path, body)
    assert (answer.status, set(json.loads(answer.body)["error"])) == (status, {"message", "type", "param", "code"})
