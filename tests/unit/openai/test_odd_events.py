"""Events that compatible upstreams fill in a way of their own, and what is no id."""

import pytest

from routing.openai.routes import find
from routing.openai.stream_end import ChatWatch, ResponsesWatch, Seen
from routing.upstream.answer_facts import read_answer


@pytest.mark.parametrize(
    "usage", [b'{"prompt_tokens":1.5}', b'{"completion_tokens":"7"}', b'"none"', b"[]", b'{"prompt_tokens":true}']
)
def test_odd_usage_ends_no_stream(usage):
    chat, responses = ChatWatch(1), ResponsesWatch()
    assert chat.see(b'{"choices":[{"index":0,"finish_reason":"stop"}],"usage":' + usage + b"}") is Seen.MORE
    last = b'{"type":"response.completed","response":{"id":"resp_1","usage":' + usage + b"}}"
    assert responses.see(last) is Seen.MORE
    assert (chat.complete(), responses.complete(), responses.response_id) == (True, True, "resp_1")
    assert (chat.usage, responses.usage) == (None, None)


def test_a_choice_without_a_usable_index_counts_by_its_place():
    watch = ChatWatch(2)
    watch.see(b'{"choices":[{"index":null,"finish_reason":"stop"},{"index":"b","finish_reason":null}]}')
    assert not watch.complete()
    watch.see(b'{"choices":[{"index":null},{"index":1.5,"finish_reason":"stop"}]}')
    assert watch.complete()


def test_an_error_beside_odd_fields_is_an_error():
    assert ChatWatch(1).see(b'{"error":{"message":"x"},"usage":7}') is Seen.ERROR
    assert ResponsesWatch().see(b'{"type":"response.failed","response":{"usage":7}}') is Seen.ERROR


def test_tokens_never_overflow_the_counters():
    facts = read_answer(b'{"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":3}}')
    assert facts is not None and facts.usage is not None
    assert (facts.usage.input, facts.usage.output) == (1 << 32, 3)


@pytest.mark.parametrize("path", ["..", ".", "../cancel", "./input_items"])
def test_a_dot_segment_is_no_response_id(path):
    assert find(f"/v1/responses/{path}") is None
    assert find(f"/responses/{path}") is None


@pytest.mark.parametrize("item", ["..a", "resp.1", "...", ".a"])
def test_dots_in_a_response_id_are_allowed(item):
    found = find(f"/v1/responses/{item}")
    assert found is not None and found["GET"].item == item
