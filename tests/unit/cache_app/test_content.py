"""An answer is kept only if it says something and came to its end."""

import itertools
import json

import pytest

from cache_app.content import SaysSomething, says_something

TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SPEAKING = {
    "text": {"content": "Hello"},
    "text beside a null refusal": {"content": "Hello", "refusal": None},
    "text after white space": {"content": "\n\n Hello"},
    "text that looks empty": {"content": '""'},
    "a part of text": {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hello"}]},
    "a refusal": {"content": None, "refusal": "I can't."},
    "a tool call": {"content": None, "tool_calls": [TOOL_CALL]},
    "two tool calls": {"content": "", "tool_calls": [TOOL_CALL, TOOL_CALL]},
    "a function call": {"content": None, "function_call": {"name": "f", "arguments": ""}},
    "audio": {"content": None, "audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hello", "expires_at": 1}},
}
SILENT = {
    "nothing": {},
    "null": {"content": None},
    "an empty text": {"content": ""},
    "white space": {"content": " \n\t\r\n"},
    "no parts": {"content": []},
    "an empty part": {"content": [{"type": "text", "text": ""}]},
    "a part of reasoning": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
    "reasoning alone": {"content": None, "reasoning_content": "Hm", "reasoning": "Hm"},
    "empty lists": {"content": None, "tool_calls": [], "function_call": None, "audio": {}, "refusal": ""},
}
ENDINGS = ["stop", "length", "tool_calls", "function_call", "content_filter"]


def written(value) -> list[bytes]:
    """Compact and pretty."""
    return [json.dumps(value, separators=(",", ":")).encode(), json.dumps(value, indent=1).encode()]


def choice(message: dict, finish_reason="stop", index=0) -> dict:
    return {
        "index": index,
        "message": {"role": "assistant"} | message,
        "logprobs": None,
        "finish_reason": finish_reason,
    }


def chat(*choices: dict) -> bool:
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "choices": list(choices), "usage": {"total_tokens": 3}}
    verdicts = {says_something("chat/completions", body) for body in written(answer)}
    assert len(verdicts) == 1
    return verdicts.pop()


@pytest.mark.parametrize("message", SPEAKING.values(), ids=SPEAKING)
def test_a_chat_answer_that_says_something(message):
    assert chat(choice(message))


@pytest.mark.parametrize("message", SILENT.values(), ids=SILENT)
def test_a_chat_answer_that_says_nothing(message):
    assert not chat(choice(message))


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_answer_that_ended_as_openai_says(ending):
    assert chat(choice({"content": "Hello"}, ending))


@pytest.mark.parametrize("ending", [None, "", "error", "abort", "insufficient_system_resource", "cancelled"])
def test_an_answer_that_a_fault_has_ended(ending):
    assert not chat(choice({"content": "Hello"}, ending))


@pytest.mark.parametrize("silent", [choice({"content": ""}), choice({"content": "Hi"}, None), choice({}, "stop", 1)])
def test_one_choice_that_is_not_whole_spoils_all(silent):
    good = choice({"content": "Hello"})
    assert chat(good, good)
    assert not chat(good, silent)
    assert not chat(silent, good)


def test_no_choices():
    assert not chat()


@pytest.mark.parametrize("operation", ["chat/completions", "completions", "responses", "embeddings", "moderations"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"choices":null}', b'{"choices":{}}', b'{"choices":[1]}',
                                  b'{"output":[]}', b'{"data":[]}', b'{"data":7}', b'{"results":[]}', b'{"choices":[',
                                  b'{"error":{"message":"m"}}', b"[" * 100_000])  # fmt: skip
def test_an_answer_of_no_known_shape(operation, body):
    assert not says_something(operation, body)


def test_answers_of_other_routes_are_not_known():
    assert not says_something("responses/compact", b'{"output":[{"type":"compaction"}],"status":"completed"}')


@pytest.mark.parametrize(("text", "ending", "kept"), [("Hello", "stop", True), ("Hello", "length", True), ("", "stop", False),
                                                      ("\n", "stop", False), ("Hello", None, False), (None, "stop", False)])  # fmt: skip
def test_completions(text, ending, kept):
    body = {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": ending}]}
    assert [says_something("completions", each) for each in written(body)] == [kept, kept]


@pytest.mark.parametrize(("rows", "kept"), [([[0.1, 0.2]], True), (["AAAA"], True), ([[0.1], [0.2]], True), ([[]], False),
                                            ([[0.1], []], False), ([""], False), ([None], False), ([], False)])  # fmt: skip
def test_embeddings(rows, kept):
    body = {"data": [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]}
    assert [says_something("embeddings", each) for each in written(body)] == [kept, kept]


def test_moderations():
    assert says_something("moderations", b'{"id":"modr-1","results":[{"flagged":false}]}')
    assert not says_something("moderations", b'{"id":"modr-1","results":[{}]}')


# -- responses


def words(text: str, kind="output_text") -> dict:
    field = "refusal" if kind == "refusal" else "text"
    return {"type": "message", "role": "assistant", "content": [{"type": kind, field: text, "annotations": []}]}


REASONING = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
RESPONSES = [
    ("completed", [words("Hello")], True),
    ("completed", [words("No.", "refusal")], True),
    ("completed", [CALL], True),
    ("completed", [REASONING, CALL, CALL], True),
    ("completed", [REASONING, words("Hello")], True),
    ("completed", [{"type": "custom_tool_call", "input": "x"}], True),
    ("completed", [], False),
    ("completed", [REASONING], False),
    ("completed", [words("")], False),
    ("completed", [{"type": "message", "content": []}], False),
    ("incomplete", [REASONING, words("Hel")], True),
    ("incomplete", [], False),
    ("incomplete", [REASONING], False),
    ("incomplete", [CALL], False),
    ("failed", [words("Hello")], False),
    ("in_progress", [words("Hello")], False),
    ("queued", [], False),
    ("cancelled", [words("Hello")], False),
]


@pytest.mark.parametrize(("status", "output", "kept"), RESPONSES)
def test_responses(status, output, kept):
    body = {"id": "resp_1", "object": "response", "status": status, "error": None, "output": output}
    assert [says_something("responses", each) for each in written(body)] == [kept, kept]


@pytest.mark.parametrize(("status", "output", "kept"), RESPONSES)
@pytest.mark.parametrize("told", ["in the last event", "before it", "twice"])
def test_streams_of_responses(status, output, kept, told):
    done = [{"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(output)]
    last = {"type": f"response.{status}", "response": {"id": "r", "status": status, "output": output}}
    if told == "before it":
        last["response"] = {"id": "r", "status": status, "output": []}
    events = [{"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}},
              {"type": "response.output_text.delta", "delta": '"response.completed"'},
              *(done if told != "in the last event" else []), last]  # fmt: skip
    assert seen("responses", events) is kept


def test_a_stream_of_responses_says_nothing_before_its_end():
    done = {"type": "response.output_item.done", "item": words("Hello")}
    assert not seen("responses", [done])


def test_malformed_events_of_responses_say_nothing():
    stream = SaysSomething("responses")
    for payload in (
        b'{"type":"response.completed"',
        b'"response.completed"',
        b'{"type":"response.completed"}',
        b"[DONE]",
    ):
        stream.see(payload)
    assert not stream.yes


# -- chat streams


def seen(operation: str, events: list[dict], choices: int = 1) -> bool:
    verdicts = set()
    for separators in ((",", ":"), (", ", ": ")):
        stream = SaysSomething(operation, choices)
        for event in events:
            stream.see(json.dumps(event, separators=separators).encode())
        stream.see(b"[DONE]")
        verdicts.add(stream.yes)
    assert len(verdicts) == 1
    return verdicts.pop()


def chunk(delta: dict, finish_reason=None, index=0) -> dict:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk",
            "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}  # fmt: skip


OPENED = chunk({"role": "assistant", "content": "", "refusal": None})
USAGE = {"id": "chatcmpl-1", "choices": [], "usage": {"total_tokens": 3}}


@pytest.mark.parametrize("delta", SPEAKING.values(), ids=SPEAKING)
def test_a_chat_stream_that_says_something(delta):
    assert seen("chat/completions", [OPENED, chunk(delta), chunk({"content": " more"}), chunk({}, "stop"), USAGE])


@pytest.mark.parametrize("delta", SILENT.values(), ids=SILENT)
def test_a_chat_stream_that_says_nothing(delta):
    assert not seen("chat/completions", [OPENED, chunk(delta), chunk(delta), chunk({}, "stop"), USAGE])


def test_a_chat_stream_of_one_chunk():
    assert seen("chat/completions", [chunk({"content": "Hello"}, "stop")])


def test_a_delta_of_null():
    event = {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}
    assert seen("chat/completions", [chunk({"content": "Hello"}), event])
    assert not seen("chat/completions", [event])


def test_a_chat_stream_without_its_end():
    assert not seen("chat/completions", [OPENED, chunk({"content": "Hello"}), USAGE])


@pytest.mark.parametrize("ending", ["error", "abort"])
def test_a_chat_stream_that_a_fault_has_ended(ending):
    assert not seen("chat/completions", [chunk({"content": "Hello"}), chunk({"content": "!"}), chunk({}, ending)])


def test_text_that_looks_like_an_end_is_text():
    said = chunk({"content": '"finish_reason":"error" "finish_reason": null'})
    assert seen("chat/completions", [chunk({"content": "Hello"}), said, chunk({}, "stop")])


@pytest.mark.parametrize(
    "order", list(itertools.permutations([chunk({"content": "a"}), chunk({"content": "b"}, index=1)]))
)
def test_every_choice_of_a_stream_must_say_something(order):
    ends = [chunk({}, "stop"), chunk({}, "stop", 1)]
    assert seen("chat/completions", [*order, *ends], choices=2)
    assert not seen("chat/completions", [order[0], *ends], choices=2)


def test_choices_in_one_chunk():
    both = {"choices": [*chunk({"content": "a"}, "stop")["choices"], *chunk({"content": "b"}, None, 1)["choices"]]}
    assert not seen("chat/completions", [both], choices=2)
    assert seen("chat/completions", [both, chunk({}, "stop", 1)], choices=2)


def test_what_cannot_be_read_is_not_kept():
    stream = SaysSomething("chat/completions")
    for payload in (
        json.dumps(chunk({"content": "Hello"})).encode(),
        b'{"choices":[{"index":"x","finish_reason":"stop"}]}',
    ):
        stream.see(payload)
    assert not stream.yes


def test_streams_of_completions():
    events = [
        {"choices": [{"index": 0, "text": text, "finish_reason": end}]}
        for text, end in (("", None), ("Hi", None), ("", "stop"))
    ]
    assert seen("completions", events)
    assert not seen("completions", [events[0], events[2]])
