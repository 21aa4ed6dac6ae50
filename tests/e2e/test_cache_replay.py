"""Every kind of answer, read by the real openai SDK from the upstream, through a miss, and from both tiers of the cache:
the same objects, made of the same bytes."""

import asyncio
import random
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx
import openai
import pytest

from tests.e2e.cache_pair import Pair, pair
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.event_sequences import EMBEDDINGS, KINDS, MODERATIONS, MUTE, PACKED_EMBEDDINGS, Kind
from tests.fakes.nonce import new_nonce
from tests.fakes.scripted import Behaviour, Exchange, RecordedRequest
from tests.fakes.truth import EVENT_STREAM
from tests.fakes.valkey import Valkey

_KIND = re.compile(rb"kind=(.+?);")
_TOLD = ("openai-version: 2020-10-01", "openai-processing-ms: 12", "x-request-id: req_upstream_1")


# -- the upstream


def says(request: RecordedRequest) -> Behaviour:
    """What the request's text asks for."""
    if request.path.endswith("/embeddings"):
        packed = request.json.get("encoding_format") == "base64"
        return b.body(200, PACKED_EMBEDDINGS if packed else EMBEDDINGS, *_TOLD)
    if request.path.endswith("/moderations"):
        return b.body(200, MODERATIONS, *_TOLD)
    found = _KIND.search(request.body)
    assert found is not None
    kind = (KINDS | MUTE)[found[1].decode()]
    return Behaviour(lambda exchange: _stream(exchange, kind)) if request.stream else b.body(200, kind.answer, *_TOLD)


async def _stream(exchange: Exchange, kind: Kind) -> None:
    """In pieces that end anywhere."""
    content = b"".join(kind.events)
    rng = random.Random(zlib.crc32(content))
    await exchange.head(200, *EVENT_STREAM, *_TOLD)
    at = 0
    while at < len(content):
        size = rng.choice([1, 7, 100, 1000, 3000])
        await exchange.chunk(content[at : at + size])
        at += size
        if rng.random() < 0.2:
            await exchange.silence(0.001)
    await exchange.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(scope="module")
def both(upstream_thread: LoopThread, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(upstream_thread, tmp_path_factory.mktemp("replay"), valkey, says) as running:
        yield running


# -- the client


class Heard(NamedTuple):
    objects: list[dict[str, Any]]
    body: bytes
    headers: httpx.Headers

    @property
    def how(self) -> str:
        return self.headers["x-llmproxy-cache"]

    @property
    def upstreams_own(self) -> dict[str, str]:
        """What a hit must tell again."""
        names = ("content-type", "openai-version", "openai-processing-ms", "x-llmproxy-upstream-request-id",
                 "x-llmproxy-endpoint")  # fmt: skip
        return {name: self.headers[name] for name in names}


class _Overheard(httpx.AsyncByteStream):
    def __init__(self, stream: Any, heard: bytearray) -> None:
        self._stream, self._heard = stream, heard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._heard += piece
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class Listener(httpx.AsyncHTTPTransport):
    """Keeps the bytes and headers of the last answer."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.heard, self.headers = bytearray(), response.headers
        response.stream = _Overheard(response.stream, self.heard)
        return response


async def listen(base_url: str, ask: Any) -> Heard:
    """`ask` gets the SDK's client and brings objects of the SDK."""
    transport = Listener(verify=False)
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="unused", max_retries=0, http_client=httpx.AsyncClient(transport=transport)
    ) as client:
        objects = await ask(client)
    return Heard([one.model_dump(warnings=False) for one in objects], bytes(transport.heard), transport.headers)


def asking_for(name: str, nonce: str, *, stream: bool) -> Any:
    """A request for this kind of answer; the nonce sets it apart from all others."""
    kind = (KINDS | MUTE)[name]
    text = f"kind={name}; {nonce}"
    fields = {key: value for key, value in kind.asked.items() if stream or key != "stream_options"}

    async def ask(client: openai.AsyncOpenAI) -> list[Any]:
        if kind.operation == "chat.completions":
            create, said = client.chat.completions.create, {"messages": [{"role": "user", "content": text}]}
        elif kind.operation == "responses":
            create, said = client.responses.create, {"input": text}
        else:
            create, said = client.completions.create, {"prompt": text}
        if not stream:
            return [await create(model="m", **said, **fields)]
        return [one async for one in await create(model="m", stream=True, **said, **fields)]

    return ask


_COUNT = """
local kept = 0
for _, key in ipairs(redis.call('KEYS', '*:a:*')) do
    if redis.call('GETRANGE', key, 0, 6) ~= 'asking:' then kept = kept + 1 end
end
return kept
"""


async def count_kept(valkey: Valkey) -> int:
    reader, writer = await asyncio.open_unix_connection(valkey.address.url.removeprefix("unix://"))
    writer.write(b'EVAL "%b" 0\r\n' % _COUNT.replace("\n", " ").encode())
    told = int((await reader.readline())[1:])
    writer.close()
    await writer.wait_closed()
    return told


async def until_kept(valkey: Valkey, count: int) -> None:
    async with asyncio.timeout(5):
        while await count_kept(valkey) < count:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def four_times(both: Pair, valkey: Valkey, ask: Any) -> tuple[Heard, Heard, Heard, Heard]:
    """From the upstream itself; from one gateway; from the other, which has only the store; from the first again."""
    one, other = both.servers
    direct = await listen(both.upstream.url, ask)
    kept = await count_kept(valkey)
    miss = await listen(one.url, ask)
    await until_kept(valkey, kept + 1)
    elsewhere = await listen(other.url, ask)
    await valkey.empty()  # now the first has it in memory only
    again = await listen(one.url, ask)
    return direct, miss, elsewhere, again


def assert_the_same(direct: Heard, miss: Heard, elsewhere: Heard, again: Heard) -> None:
    assert [miss.how, elsewhere.how, again.how] == ["miss", "hit", "hit"]
    assert direct.objects != []
    for hit in (miss, elsewhere, again):
        assert hit.objects == direct.objects
        assert hit.body == direct.body
        assert hit.upstreams_own == miss.upstreams_own
    for hit in (elsewhere, again):
        assert (hit.headers["x-llmproxy-attempts"], int(hit.headers["age"]) < 5) == ("0", True)


@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_is_replayed(both: Pair, valkey: Valkey, name: str) -> None:
    nonce = new_nonce()
    heard = await four_times(both, valkey, asking_for(name, nonce, stream=True))
    assert heard[0].body == b"".join(KINDS[name].events)
    assert_the_same(*heard)
    assert len(both.asked(nonce)) == 2


@pytest.mark.parametrize("name", KINDS)
async def test_a_json_answer_is_replayed(both: Pair, valkey: Valkey, name: str) -> None:
    nonce = new_nonce()
    heard = await four_times(both, valkey, asking_for(name, nonce, stream=False))
    assert heard[0].body == KINDS[name].answer
    assert_the_same(*heard)
    assert len(both.asked(nonce)) == 2


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "float"}], ids=["packed", "floats"])
async def test_embeddings_are_replayed(both: Pair, valkey: Valkey, fields: dict[str, Any]) -> None:
    nonce = new_nonce()

    async def ask(client: openai.AsyncOpenAI) -> list[Any]:
        return [await client.embeddings.create(model="m", input=["one", nonce], **fields)]

    assert_the_same(*await four_times(both, valkey, ask))


async def test_moderations_are_replayed(both: Pair, valkey: Valkey) -> None:
    nonce = new_nonce()

    async def ask(client: openai.AsyncOpenAI) -> list[Any]:
        return [await client.moderations.create(model="m", input=nonce)]

    assert_the_same(*await four_times(both, valkey, ask))


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("responses")])
async def test_the_sdks_own_accumulator_hears_the_same(both: Pair, valkey: Valkey, name: str) -> None:
    nonce, fields = new_nonce(), KINDS[name].asked

    async def ask(client: openai.AsyncOpenAI) -> list[Any]:
        async with client.responses.stream(model="m", input=f"kind={name}; {nonce}", **fields) as stream:
            events = [event async for event in stream]
            # The SDK gives no final response for one that is not complete.
            return events if name == "responses: incomplete" else [*events, await stream.get_final_response()]

    assert_the_same(*await four_times(both, valkey, ask))


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
@pytest.mark.parametrize("name", MUTE)
async def test_what_says_nothing_is_asked_for_again(both: Pair, valkey: Valkey, name: str, stream: bool) -> None:
    nonce, kept = new_nonce(), await count_kept(valkey)
    heard = [await listen(both.servers[0].url, asking_for(name, nonce, stream=stream)) for _ in range(2)]
    assert [one.how for one in heard] == ["miss", "miss"]
    assert len(both.asked(nonce)) == 2
    assert await count_kept(valkey) == kept


@pytest.mark.parametrize("tool", ["web_search", "file_search", "code_interpreter", "mcp", "image_generation"])
async def test_hosted_tools_are_never_replayed(both: Pair, tool: str) -> None:
    nonce = new_nonce()

    async def ask(client: openai.AsyncOpenAI) -> list[Any]:
        text = f"kind=responses: text; {nonce}"
        return [await client.responses.create(model="m", input=text, tools=[{"type": tool}])]

    heard = [await listen(both.servers[0].url, ask) for _ in range(2)]
    assert [one.how for one in heard] == ["bypass", "bypass"]
    assert len(both.asked(nonce)) == 2


async def test_a_stream_and_the_json_of_the_same_request_are_kept_apart(both: Pair) -> None:
    nonce = new_nonce()
    for stream in (True, False, True, False):
        heard = await listen(both.servers[0].url, asking_for("chat.completions: plain", nonce, stream=stream))
        kind = "text/event-stream" if stream else "application/json"
        assert heard.headers["content-type"].startswith(kind)
    assert len(both.asked(nonce)) == 2
