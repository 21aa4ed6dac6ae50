"""What each event means for its stream: more, done, an error, malformed; and when an answer is whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.openai.stream_end import ChatWatch, ResponsesWatch, Seen, interruption
from routing.upstream.answer_facts import Usage


def chunk(*choices: tuple[int, str | None], **fields) -> bytes:
    made = [{"index": index, "delta": {}, "finish_reason": reason} for index, reason in choices]
    return json.dumps({"object": "chat.completion.chunk", "choices": made} | fields).encode()


def test_a_chat_answer_is_whole_when_every_choice_has_finished():
    watch = ChatWatch(2)
    seen = [watch.see(chunk((0, None))), watch.see(chunk((1, None))), watch.see(chunk((0, "stop")))]
    assert (seen, watch.complete()) == ([Seen.MORE] * 3, False)
    watch.see(chunk((1, "length")))
    assert watch.complete()


def test_a_choice_more_than_asked_for_must_finish_too():
    watch = ChatWatch(1)
    watch.see(chunk((0, "stop"), (1, None)))
    assert not watch.complete()


def test_an_empty_finish_reason_is_none():
    watch = ChatWatch(1)
    watch.see(chunk((0, "")))
    assert not watch.complete()


def test_chunks_without_choices_go_on():
    watch = ChatWatch(1)
    assert watch.see(b'{"choices":[],"prompt_filter_results":[{}]}') is Seen.MORE
    assert watch.see(b'{"choices":null}') is Seen.MORE
    assert watch.see(b"{}") is Seen.MORE


def test_the_usage_chunk_after_the_end_is_read():
    watch = ChatWatch(1)
    watch.see(chunk((0, "stop"), usage=None))
    watch.see(chunk(usage={"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}))
    assert watch.usage == Usage(5, 6)
    assert watch.complete()


@pytest.mark.parametrize("error", ['{"message":"x"}', '"x"', "{}", "1", "[]", "false"])
def test_an_error_in_a_chunk(error):
    assert ChatWatch(1).see(f'{{"error":{error}}}'.encode()) is Seen.ERROR


@pytest.mark.parametrize("watch", [ChatWatch(1), ResponsesWatch()], ids=["chat", "responses"])
@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"{", b"[]", b"7", b"null", b'"x"', b"{} {}", b'{"a":NaN}', b"[DONE", b"\xff", b"[" * 100_000,
     b'{"x":' * 100_000, b'{"choices":7,"response":7}', b'{"a":1}\0'],
    ids=lambda payload: repr(payload[:12]),
)  # fmt: skip
def test_malformed_events(watch, payload):
    assert watch.see(payload) is Seen.MALFORMED


@pytest.mark.parametrize("watch", [ChatWatch(1), ResponsesWatch()], ids=["chat", "responses"])
def test_done(watch):
    assert watch.see(b"[DONE]") is Seen.DONE


@given(st.binary(max_size=100))
def test_no_payload_raises(payload):
    for watch in (ChatWatch(1), ResponsesWatch()):
        assert watch.see(payload) in Seen


@pytest.mark.parametrize("last", ["response.completed", "response.incomplete"])
def test_a_response_is_whole_with_its_last_event(last):
    watch = ResponsesWatch()
    assert watch.see(b'{"type":"response.created","response":{"id":"resp_9","usage":null,"error":null}}') is Seen.MORE
    assert not watch.complete()
    event = {"type": last, "response": {"id": "resp_9", "usage": {"input_tokens": 1, "output_tokens": 2}}}
    assert watch.see(json.dumps(event).encode()) is Seen.MORE
    assert (watch.complete(), watch.response_id, watch.usage) == (True, "resp_9", Usage(1, 2))


@pytest.mark.parametrize(
    "event",
    ['{"type":"error","message":"x"}', '{"type":"response.failed","response":{"id":"r"}}', '{"error":{"message":"x"}}'],
)
def test_error_events_of_responses(event):
    assert ResponsesWatch().see(event.encode()) is Seen.ERROR


def test_an_unknown_type_of_event_goes_on():
    assert ResponsesWatch().see(b'{"type":"response.new_thing","error":null,"delta":"x"}') is Seen.MORE


@pytest.mark.parametrize("events", ["chat", "responses"])
def test_the_interruption_is_one_event_that_sdks_understand(events):
    lines = interruption(events).decode().split("\n")
    assert lines[-2:] == ["", ""]
    data = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
    assert data["error"]["code"] == "upstream_stream_interrupted"
    assert set(data["error"]) == {"message", "type", "param", "code"}
    assert (lines[0] == "event: error", data.get("type") == "error") == (events == "responses",) * 2
