"""The SDK's asynchronous client, many requests at a time."""

import asyncio

import openai

from tests.e2e.processes import Process

MODEL = "gpt-4o-mini"


async def test_many_at_a_time(server: Process) -> None:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0) as client:

        async def one(number: int) -> None:
            asked = [{"role": "user", "content": f"number {number}"}]
            if number % 2:
                answer = await client.chat.completions.create(model=MODEL, messages=asked)
                text = answer.choices[0].message.content
            else:
                stream = await client.chat.completions.create(model=MODEL, messages=asked, stream=True)
                text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text.endswith(f"You said: number {number}")

        await asyncio.gather(*(one(number) for number in range(40)))


async def test_responses_and_embeddings(server: Process) -> None:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0) as client:
        answer = await client.responses.create(model=MODEL, input="Hi")
        assert (await client.responses.retrieve(answer.id)).output_text == answer.output_text
        assert len((await client.embeddings.create(model=MODEL, input="x", dimensions=8)).data[0].embedding) == 8


async def test_a_stream_that_is_left_ends_upstream(server: Process, site: object) -> None:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0) as client:
        asked = [{"role": "user", "content": "leaver"}]
        stream = await client.chat.completions.create(model="slow-stream", messages=asked, stream=True)
        await anext(aiter(stream))
        await stream.close()
    request = next(one for one in reversed(site.asked("slow-stream")) if b"leaver" in one.body)  # type: ignore[attr-defined]
    for _ in range(100):
        if request.closed_by_peer_at is not None:
            break
        await asyncio.sleep(0.02)
    assert request.closed_by_peer_at is not None
    assert request.answered_at is None
