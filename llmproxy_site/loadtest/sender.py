"""Sends what a plan says over our own fast client, and judges every answer. Adds up as it goes, so that it can be
stopped at any time."""

import asyncio
import time
import uuid

from llmproxy_site.loadtest.plan import MOST_REQUESTS, Plan
from llmproxy_site.loadtest.tally import Answer, Tally
from routing.openai.sse import EventCutter, EventTooLarge
from routing.openai.stream_end import DONE
from routing.upstream.answer_facts import read_answer
from routing.upstream.classify import of_error
from routing.upstream.errors import UpstreamError
from routing.upstream.fast import FastUpstream
from routing.upstream.transport import Limits, Reply

_CONNECT_S = 10.0
_LONGEST_S = 600.0
_MOST_BYTES = 256 * 1024 * 1024
_MOST_EVENT_BYTES = 16 * 1024 * 1024


class Sender:
    """One load test."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self._upstream = FastUpstream()
        self._run = uuid.uuid4().hex[:8]
        self._began = 0.0
        self._taken = 0  # requests that some connection has taken on

    async def try_once(self) -> Answer:
        """One request before the others, counted nowhere."""
        return await self._ask(0)

    async def run(self) -> None:
        """Until the plan is done, or cancelled; the tally is right either way, requests under way are left out."""
        cpu, self._began = time.process_time(), time.perf_counter()
        try:
            async with asyncio.TaskGroup() as connections:
                for _ in range(self.plan.connections):
                    connections.create_task(self._keep_asking())
        finally:
            self.tally.elapsed_s = time.perf_counter() - self._began
            self.tally.cpu_s = time.process_time() - cpu

    async def aclose(self) -> None:
        await self._upstream.aclose()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn; uvloop waits for them for ever

    def share_done(self) -> float:
        """From 0 to 1."""
        if self.plan.requests is not None:
            return self.tally.requests / self.plan.requests
        return min((time.perf_counter() - self._began) / (self.plan.seconds or 1), 1.0)

    async def _keep_asking(self) -> None:
        while (due := self._next_due()) is not None:
            number = self._taken
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
                due = time.perf_counter()
            answer = await self._ask(number)
            # Since it was due: where all connections were busy, waiting for one is what a client would feel.
            self.tally.add(answer, time.perf_counter() - due)

    def _next_due(self) -> float | None:
        """When to send the next request; None: there is none."""
        plan, now = self.plan, time.perf_counter()
        due = self._began + self._taken / plan.rate if plan.rate else now
        if self._taken >= (plan.requests or MOST_REQUESTS):
            return None
        if plan.seconds is not None and max(now, due) >= self._began + plan.seconds:
            return None
        self._taken += 1
        return due

    async def _ask(self, number: int) -> Answer:
        answer = Answer()
        limits = Limits(_CONNECT_S, asyncio.get_running_loop().time() + _LONGEST_S, self.plan.connections, _MOST_BYTES)
        body = self.plan.body(self._run, number)
        sent = time.perf_counter()
        try:
            reply = await self._upstream.send(self.plan.target, body, limits)
        except UpstreamError as error:
            answer.trouble = of_error(error).error
            return answer
        answer.status = reply.status
        try:
            await self._judge(reply, answer, sent)
        except (UpstreamError, EventTooLarge) as error:
            answer.trouble = of_error(error).error if isinstance(error, UpstreamError) else "event too large"
        finally:
            reply.close()
        return answer

    async def _judge(self, reply: Reply, answer: Answer, sent: float) -> None:
        if not 200 <= reply.status < 300:
            answer.body_bytes = len(await reply.read())
            answer.trouble = f"status {reply.status}"
        elif self.plan.stream:
            await _follow(reply, answer, sent)
        else:
            body = await reply.read()
            answer.body_bytes = len(body)
            facts = read_answer(body)
            answer.trouble = "no JSON" if facts is None else "error in a 200 answer" if facts.is_error else ""


async def _follow(reply: Reply, answer: Answer, sent: float) -> None:
    """A stream is good if it has an event, no error, and ends with [DONE]."""
    cutter, last, failed = EventCutter(_MOST_EVENT_BYTES), b"", False
    while (piece := await reply.piece()) is not None:
        answer.body_bytes += len(piece)
        payloads = cutter.feed(piece).payloads
        if not payloads:
            continue
        if answer.first_event_s is None:
            answer.first_event_s = time.perf_counter() - sent
        last = payloads[-1]
        answer.events += len(payloads) - (last == DONE)
        failed = failed or any(map(_is_error, payloads))
    if failed:
        answer.trouble = "error in the stream"
    elif not answer.events:
        answer.trouble = "stream without an event"
    elif last != DONE or cutter.tail():
        answer.trouble = "stream without [DONE] at its end"


def _is_error(payload: bytes) -> bool:
    if b'"error"' not in payload:
        return False
    facts = read_answer(payload)
    return facts is not None and facts.is_error
