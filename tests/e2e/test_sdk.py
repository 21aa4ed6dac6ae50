"""The real openai SDK, synchronous: all it can ask for works through the gateway as it does without."""

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.processes import Process

MODEL = "gpt-4o-mini"
ASKED = [{"role": "user", "content": "Hello there, gateway"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(server: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="unused") as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASKED)
    assert answer.choices[0].message.content.endswith("You said: Hello there, gateway")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_without_v1_in_the_base_url(server: Process) -> None:
    with openai.OpenAI(base_url=server.root, api_key="unused") as client:
        assert client.chat.completions.create(model=MODEL, messages=ASKED).object == "chat.completion"


def test_chat_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASKED).choices[0].message.content
    chunks = list(client.chat.completions.create(model=MODEL, messages=ASKED, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.split("You said")[1] == whole.split("You said")[1]
    assert chunks[-1].choices
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert (last.choices, last.usage.total_tokens > 0) == ([], True)


def test_tools(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    message = client.chat.completions.create(model=MODEL, messages=ASKED, tools=tools).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Hello there, gateway"}')
    told = [*ASKED, message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    second = client.chat.completions.create(model=MODEL, messages=told, tools=tools)
    assert second.choices[0].message.content.endswith("The tool said: sun")


def test_tools_in_a_stream(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    with client.chat.completions.stream(model=MODEL, messages=ASKED, tools=tools) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.arguments == '{"city":"Hello there, gateway"}'


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Hi")
    assert answer.output_text.endswith("You said: Hi")


def test_responses_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hi") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text.endswith("You said: Hi")
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


def test_a_response_is_found_again(client: openai.OpenAI) -> None:
    """Two upstreams and two workers: the id leads back to the one that made it."""
    for _ in range(6):
        made = client.responses.create(model=MODEL, input="Hi")
        assert client.responses.retrieve(made.id).id == made.id
        assert client.responses.input_items.list(made.id).data[0].content[0].text == "Hi"
        continued = client.responses.create(model=MODEL, input="And?", previous_response_id=made.id)
        assert continued.previous_response_id == made.id
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)


def test_a_kept_response_is_streamed_again(client: openai.OpenAI) -> None:
    made = client.responses.create(model=MODEL, input="Hi")
    events = list(client.responses.retrieve(made.id, stream=True, starting_after=3))
    assert (events[0].sequence_number, events[-1].type) == (4, "response.completed")


def test_a_background_response_is_cancelled(client: openai.OpenAI) -> None:
    made = client.responses.create(model=MODEL, input="Hi", background=True)
    assert client.responses.cancel(made.id).status == "cancelled"


def test_input_tokens_and_compact(client: openai.OpenAI) -> None:
    assert client.responses.input_tokens.count(model=MODEL, input="hello").input_tokens == 2
    assert client.responses.compact(model=MODEL, input="hello").object == "response.compaction"


def test_embeddings(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model=MODEL, input=["one", "two"])
    plain = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float")
    assert [one.embedding for one in packed.data] == [one.embedding for one in plain.data]
    assert packed.data[0].embedding != packed.data[1].embedding


def test_moderations_and_completions(client: openai.OpenAI) -> None:
    assert client.moderations.create(model=MODEL, input="violence").results[0].flagged
    assert client.completions.create(model=MODEL, prompt="x").choices[0].text.endswith("You said: x")
    streamed = client.completions.create(model=MODEL, prompt="x", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed).endswith("You said: x")


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == sorted(names)
    assert MODEL in names
    assert client.models.retrieve(MODEL).id == MODEL


def test_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASKED)
    assert raw.headers["x-llmproxy-endpoint"] in ("mock-a", "mock-b")
    assert raw.headers["x-llmproxy-attempts"] == "1"
    assert raw.headers["x-llmproxy-revision"] == "1"
    assert raw.headers["x-llmproxy-upstream-request-id"].startswith("req_mock-")
    assert raw.request_id == raw.headers["x-request-id"]
