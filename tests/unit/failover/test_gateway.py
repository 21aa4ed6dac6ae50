"""The whole story of a request in memory: its group, its plan, and what is remembered of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cache_app.answers import AnswerCache
from cache_app.store import AnswerStore
from routing.affinity import Affinity
from routing.attempt import Attempt
from routing.caching import Caching
from routing.config.live import LiveTable
from routing.config.table import RoutingTable
from routing.errors import BadRequest, NotFound, Refusal
from routing.gateway import Gateway
from routing.openai.request import LLMRequest
from routing.openai.routes import CANCEL, RETRIEVE
from tests.unit.failover.scene import NoStore, Scene, request, response, three
from tests.unit.memory_upstream import Says, status, streams
from tests.unit.tables import model, table_of
from tests.unit.virtual_time import run

MADE = Says(body=b'{"id":"resp_1","object":"response","output":[{"encrypted_content":"AAAA"}]}')
UNKNOWN = status(404)


class Here:
    """A client that stays."""

    gone = False

    def hold(self, holder: Any) -> None:
        pass

    def release(self, holder: Any) -> None:
        pass

    def let_go(self) -> None:
        pass


class Story(Scene):
    def __init__(self, *models: dict[str, Any], **options: Any) -> None:
        super().__init__(*models, **options)
        self.live = LiveTable(self.table)
        cache: AnswerCache[Attempt] = AnswerCache(AnswerStore(NoStore(), NoStore(), "cache", self.recorder))
        caching = Caching(cache, self.recorder)
        affinity = Affinity(NoStore())
        self.gateway = Gateway(self.live, self.board, self.failover, affinity, caching, random.Random(1))

    async def tell(self, asked: LLMRequest) -> Attempt:
        self.order.clear()
        with await self.gateway.answer(asked, Here()) as attempt:
            while attempt.relay is not None and await attempt.piece() is not None:
                pass
        return attempt

    async def refused(self, asked: LLMRequest) -> Refusal:
        self.order.clear()
        with pytest.raises(Refusal) as refused, await self.gateway.answer(asked, Here()):
            pass
        return refused.value


def tell(*models: dict[str, Any], **options: Any) -> Callable[[Callable[[Story], Awaitable[None]]], None]:
    def now(scenario: Callable[[Story], Awaitable[None]]) -> None:
        async def begin() -> None:
            story = Story(*models, **options)
            await scenario(story)
            await asyncio.sleep(0.01)
            assert story.nothing_held()

        run(begin())

    return now


def item(name: str = "resp_1", *, scope: str = "", cancel: bool = False) -> LLMRequest:
    route, method = (CANCEL, "POST") if cancel else (RETRIEVE, "GET")
    return LLMRequest(route, method, b"", pins=(name,), operation=route.operation.replace("{id}", name), scope=scope)


def test_an_unknown_model_is_404():
    @tell(*three())
    async def _(story: Story) -> None:
        refusal = await story.refused(request(model="other"))
        assert isinstance(refusal, NotFound)
        assert (refusal.code, refusal.param, refusal.after_attempt) == ("model_not_found", "model", False)


def test_the_upstreams_model_name_is_sent():
    @tell(*three())
    async def _(story: Story) -> None:
        await story.tell(request())
        asked = story.upstreams["a"].asked[0]
        assert asked.body == b'{"model": "a-model", "stream": false}'
        assert (asked.target.path, asked.target.origin.host) == ("/v1/chat/completions", "a.example")


def test_a_follow_up_goes_back_to_the_endpoint_that_made_the_response():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(b=MADE)
        await story.tell(response())
        assert (await story.tell(response())).endpoint.name == "b"
        for _ in range(5):
            assert (await story.tell(response(previous_response_id="resp_1"))).endpoint.name == "b"
        assert story.order == ["b"]


@pytest.mark.parametrize("cancel", [False, True])
def test_a_stored_response_is_asked_for_where_it_was_made(cancel):
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(a=MADE)
        await story.tell(response())
        await story.tell(item(cancel=cancel))
        assert story.order == ["a"]
        path = story.upstreams["a"].asked[-1].target.path
        assert path == "/v1/responses/resp_1" + ("/cancel" if cancel else "")


def test_encrypted_items_go_back_to_who_encrypted_them():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(b=MADE)
        await story.tell(response())
        await story.tell(response())
        follow_up = response(input=[{"type": "reasoning", "encrypted_content": "AAAA"}])
        assert (await story.tell(follow_up)).endpoint.name == "b"


def test_encrypted_items_of_different_endpoints_are_refused_at_once():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(a=MADE, b=Says(body=MADE.body.replace(b"AAAA", b"BBBB").replace(b"resp_1", b"resp_2")))
        await story.tell(response())
        await story.tell(response())
        both = response(input=[{"encrypted_content": "AAAA"}, {"encrypted_content": "BBBB"}])
        refusal = await story.refused(both)
        assert isinstance(refusal, BadRequest)
        assert (refusal.code, story.order) == ("previous_response_not_found", [])


def test_a_conversation_stays_where_it_began():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(a=status(429), b=MADE)
        await story.tell(response(conversation="conv_1"))
        for _ in range(4):
            assert (await story.tell(response(conversation="conv_1"))).endpoint.name == "b"


def test_a_response_made_by_a_stream_is_remembered():
    @tell(*three())
    async def _(story: Story) -> None:
        created = b'data: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
        last = b'data: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
        story.script(a=streams(created, last))
        await story.tell(response(stream=True))
        story.script(a=MADE)
        assert (await story.tell(response(previous_response_id="resp_1"))).endpoint.name == "a"
        assert story.order == ["a"]


def test_an_endpoint_of_the_same_account_may_take_over():
    shared = {"base_url": "https://same.example/v1", "api_key": "sk-the-same-key"}
    other = {"model_group": "other", "models": [model("x", params=shared)]}

    @tell(model("a", params=shared), model("b"), others=(other,))
    async def _(story: Story) -> None:
        story.script(x=MADE)
        await story.tell(response(model="other"))
        assert (await story.tell(response(previous_response_id="resp_1"))).endpoint.name == "a"
        assert story.order == ["a"]


def test_an_id_that_only_another_group_made_is_asked_around_here():
    @tell(*three(), others=({"model_group": "other", "models": [model("x")]},))
    async def _(story: Story) -> None:
        story.script(x=MADE, **dict.fromkeys("abc", UNKNOWN))
        await story.tell(response(model="other"))
        refusal = await story.refused(response(previous_response_id="resp_1"))
        assert (refusal.status, refusal.code, sorted(story.order)) == (
            400,
            "previous_response_not_found",
            ["a", "b", "c"],
        )


def test_a_stored_response_is_looked_for_in_all_groups():
    @tell(*three(), others=({"model_group": "other", "models": [model("x")]},))
    async def _(story: Story) -> None:
        story.script(**dict.fromkeys("abc", UNKNOWN))
        assert (await story.tell(item("resp_7"))).endpoint.name == "x"
        await story.tell(item("resp_7"))
        assert story.order == ["x"], "now it is remembered"


def test_a_stored_response_that_nobody_knows_is_404():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(**dict.fromkeys("abc", UNKNOWN))
        refusal = await story.refused(item("resp_7"))
        assert (refusal.status, refusal.after_attempt) == (404, True)


def test_another_clients_response_is_unknown():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(b=MADE)
        await story.tell(response())
        await story.tell(response())
        await story.tell(item(scope="another client"))
        assert story.order[0] == "a", "asked around, as nobody remembers it for this client"


def test_a_failed_answer_is_not_remembered():
    @tell(*three(), num_retries=0)
    async def _(story: Story) -> None:
        story.script(a=Says(400, MADE.body))
        await story.tell(response())
        story.script(a=MADE)
        await story.tell(response(previous_response_id="resp_1"))
        story.script(a=UNKNOWN)
        await story.tell(response(previous_response_id="resp_9"))
        assert story.order == ["a", "b"]


def test_a_request_ends_on_the_table_it_began_with():
    @tell(*three())
    async def _(story: Story) -> None:
        story.script(a=Says(head_after_s=5.0))
        asking = asyncio.get_running_loop().create_task(story.tell(request()))
        await asyncio.sleep(1)
        empty = swapped(story)
        assert (await story.refused(request())).code == "model_not_found"
        attempt = await asking
        assert (attempt.course.table is not empty, attempt.status) == (True, 200)


def swapped(story: Story) -> RoutingTable:
    told: list[RoutingTable] = []
    story.live.on_change(told.append)
    story.live.swap(table_of())
    assert told == [story.live.table]
    return story.live.table
