"""The Responses API: answers are kept, so that a later request can fetch, cancel, delete or continue them."""

import base64
import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from routing.mock_upstream.answer import CREATED, Answer, encode, json_answer, pieces, refusal, tokens
from routing.mock_upstream.asked import ResponseAsked, example, text_of, wanted_tool

_KEPT = 10_000


@dataclass(slots=True)
class Kept:
    response: dict[str, Any]
    items: list[dict[str, Any]]


class Responses:
    """The answers of one mock. Ids carry the mock's name: another mock does not know them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seal = base64.b64encode(f"mock:{name}:".ljust(30, "=").encode()).decode()
        self._numbers = itertools.count(1)
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def create(self, asked: ResponseAsked, events: int) -> Answer:
        problem = self._problem(asked)
        if problem is not None:
            return problem
        number = next(self._numbers)
        identity = f"resp_{self._name}_{number:016x}"
        items = _input_items(asked, identity)
        output, text = self._output(asked, items, number)
        response = _body(asked, identity, output, (sum(tokens(text_of(i.get("content"))) for i in items), tokens(text)))
        if asked.store is not False:
            self._kept[identity] = Kept(response, items)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if asked.background and not asked.stream:
            return json_answer(response | {"status": "queued", "output": [], "usage": None})
        return Answer(events=stream_events(response, events)) if asked.stream else json_answer(response)

    def get(self, identity: str, *, stream: bool, after: int) -> Answer:
        kept = self._kept.get(identity)
        if kept is None:
            return _unknown(identity)
        if stream:
            return Answer(events=stream_events(kept.response, 0)[after + 1 :])
        return json_answer(kept.response)

    def delete(self, identity: str) -> Answer:
        if self._kept.pop(identity, None) is None:
            return _unknown(identity)
        return json_answer({"id": identity, "object": "response", "deleted": True})

    def cancel(self, identity: str) -> Answer:
        kept = self._kept.get(identity)
        if kept is None:
            return _unknown(identity)
        if not kept.response["background"]:
            return refusal(400, "Cannot cancel a synchronous response.")
        kept.response["status"] = "cancelled"
        return json_answer(kept.response)

    def input_items(self, identity: str) -> Answer:
        kept = self._kept.get(identity)
        if kept is None:
            return _unknown(identity)
        ids = [item["id"] for item in kept.items] or [None]
        page = {"object": "list", "data": kept.items, "first_id": ids[0], "last_id": ids[-1], "has_more": False}
        return json_answer(page)

    def compact(self, asked: ResponseAsked) -> Answer:
        number = next(self._numbers)
        count = _usage(tokens(_heard(asked)), 1)
        sealed = {"id": f"cmp_{number:016x}", "type": "compaction", "encrypted_content": self._seal}
        identity = f"resp_{self._name}_{number:016x}"
        whole = {"id": identity, "object": "response.compaction", "created_at": CREATED}
        return json_answer(whole | {"output": [sealed], "usage": count})

    def _problem(self, asked: ResponseAsked) -> Answer | None:
        before = asked.previous_response_id
        if before is not None and before not in self._kept:
            message = f"Previous response with id '{before}' not found."
            return refusal(400, message, "previous_response_id", "previous_response_not_found")
        for item in asked.input if isinstance(asked.input, list) else ():
            if item.get("encrypted_content") not in (None, self._seal):
                message = "The encrypted content could not be verified."
                return refusal(400, message, None, "invalid_encrypted_content")
        return None

    def _output(
        self, asked: ResponseAsked, items: list[dict[str, Any]], number: int
    ) -> tuple[list[dict[str, Any]], str]:
        output: list[dict[str, Any]] = []
        if "reasoning.encrypted_content" in (asked.include or ()):
            thought = {"id": f"rs_{number:016x}", "type": "reasoning", "summary": []}
            output.append(thought | {"encrypted_content": self._seal})
        heard = _heard(asked)
        tool = wanted_tool(asked.tools, asked.tool_choice)
        if tool is not None and not (items and items[-1].get("type") == "function_call_output"):
            text = encode(example(tool[1], heard)).decode()
            call = {"id": f"fc_{number:016x}", "type": "function_call", "status": "completed"}
            output.append(call | {"name": tool[0], "call_id": f"call_{number:016x}", "arguments": text})
            return output, text
        text = f"Hello from {self._name} ({asked.model}). You said: {heard}"
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {"id": f"msg_{number:016x}", "type": "message", "status": "completed", "role": "assistant"}
        output.append(message | {"content": [part]})
        return output, text


def input_tokens(asked: ResponseAsked) -> Answer:
    return json_answer({"object": "response.input_tokens", "input_tokens": tokens(_heard(asked))})


def _heard(asked: ResponseAsked) -> str:
    if isinstance(asked.input, str):
        return asked.input
    last = (asked.input or [{}])[-1]
    return str(last["output"]) if "output" in last else text_of(last.get("content"))


def _unknown(identity: str) -> Answer:
    return refusal(404, f"Response with id '{identity}' not found.")


def _input_items(asked: ResponseAsked, identity: str) -> list[dict[str, Any]]:
    given: list[dict[str, Any]] = (
        asked.input
        if isinstance(asked.input, list)
        else [{"role": "user", "content": [{"type": "input_text", "text": asked.input or ""}]}]
    )
    return [
        {"id": f"msg_{identity[5:]}_{index}", "type": "message", "status": "completed"} | item
        for index, item in enumerate(given)
    ]


def _usage(heard: int, said: int) -> dict[str, Any]:
    return {
        "input_tokens": heard,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": heard + said,
    }


def _body(asked: ResponseAsked, identity: str, output: list[dict[str, Any]], counts: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "background": bool(asked.background),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": asked.previous_response_id,
        "store": asked.store is not False,
        "temperature": 1.0,
        "tool_choice": asked.tool_choice or "auto",
        "tools": asked.tools or [],
        "top_p": 1.0,
        "usage": _usage(*counts),
    }


def stream_events(response: dict[str, Any], events: int) -> list[bytes]:
    """The events of a whole answer, numbered from 0; `events` as in chat."""
    started = response | {"status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    ]
    for index, item in enumerate(response["output"]):
        told += _item_events(index, item, events)
    told.append({"type": "response.completed", "response": response})
    return [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), encode(event | {"sequence_number": number}))
        for number, event in enumerate(told)
    ]


def _item_events(index: int, item: dict[str, Any], events: int) -> list[dict[str, Any]]:
    place = {"output_index": index, "item_id": item["id"]}
    added = {"type": "response.output_item.added", "output_index": index}
    done = {"type": "response.output_item.done", "output_index": index, "item": item}
    if item["type"] == "function_call":
        kind, text = "response.function_call_arguments", item["arguments"]
        opened = item | {"status": "in_progress", "arguments": ""}
        deltas = [{"type": f"{kind}.delta", "delta": piece} | place for piece in pieces(text, events)]
        last = {"type": f"{kind}.done", "name": item["name"], "arguments": text} | place
        return [added | {"item": opened}, *deltas, last, done]
    if item["type"] != "message":
        return [added | {"item": item}, done]
    part = item["content"][0]
    place["content_index"] = 0
    texts: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": piece, "logprobs": []} | place
        for piece in pieces(part["text"], events)
    ]
    return [
        added | {"item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", "part": part | {"text": ""}} | place,
        *texts,
        {"type": "response.output_text.done", "text": part["text"], "logprobs": []} | place,
        {"type": "response.content_part.done", "part": part} | place,
        done,
    ]
