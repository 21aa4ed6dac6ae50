"""What an honest upstream says: chat, responses and embeddings as JSON and as events, with the nonce in them."""

import json
from typing import Any

from tests.fakes.nonce import told
from tests.fakes.scripted import Exchange, RecordedRequest

DONE = b"data: [DONE]\n\n"
EVENT_STREAM = ("content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked")


def _data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _usage(size: int) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": size, "total_tokens": 7 + size}


def _response(nonce: str, size: int, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": told(nonce, size), "annotations": []}
    message = {"id": f"msg_{nonce}", "type": "message", "status": status, "role": "assistant", "content": [part]}
    usage = {"input_tokens": 7, "output_tokens": size, "total_tokens": 7 + size}
    whole = {"id": f"resp_{nonce}", "object": "response", "created_at": 1, "model": "upstream-model", "error": None}
    if status != "completed":
        return whole | {"status": status, "output": [], "usage": None}
    return whole | {"status": status, "output": [message], "usage": usage}


def json_body(request: RecordedRequest, nonce: str, size: int) -> bytes:
    """The whole answer to a request that asked for JSON."""
    value: dict[str, Any]
    if request.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.0]}]
        value = {"object": "list", "data": data, "model": "upstream-model", "usage": _usage(0), "nonce": nonce}
    elif "/responses" in request.path:
        value = _response(nonce, size)
    else:
        message = {"role": "assistant", "content": told(nonce, size)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        value = {"id": f"chatcmpl-{nonce}", "object": "chat.completion", "created": 1, "model": "upstream-model"}
        value |= {"choices": [choice], "usage": _usage(size)}
    return json.dumps(value, ensure_ascii=False).encode()


def events(request: RecordedRequest, nonce: str, size: int) -> list[bytes]:
    """All events of a stream; the text is cut into eight of them."""
    text = told(nonce, size)
    step = len(text) // 8 + 1
    parts = [text[start : start + step] for start in range(0, len(text), step)]
    if "/responses" in request.path:
        return _response_events(nonce, size, parts)
    chunk = {"id": f"chatcmpl-{nonce}", "object": "chat.completion.chunk", "created": 1, "model": "upstream-model"}

    def one(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data(chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    sent = [one({"role": "assistant", "content": ""}), *(one({"content": part}) for part in parts), one({}, "stop")]
    if (request.json.get("stream_options") or {}).get("include_usage"):
        sent.append(_data(chunk | {"choices": [], "usage": _usage(size)}))
    return [*sent, DONE]


def _response_events(nonce: str, size: int, parts: list[str]) -> list[bytes]:
    place = {"item_id": f"msg_{nonce}", "output_index": 0, "content_index": 0}
    told_events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(nonce, size, "in_progress")},
        *({"type": "response.output_text.delta", "delta": part} | place for part in parts),
        {"type": "response.completed", "response": _response(nonce, size)},
    ]
    return [
        f"event: {event['type']}\n".encode() + _data(event | {"sequence_number": number})
        for number, event in enumerate(told_events)
    ]


async def tell(exchange: Exchange, *, interval: float = 0, headers: tuple[str, ...] = ()) -> None:
    """The right and whole answer, JSON or stream as asked; `interval`: seconds between events."""
    request = exchange.request
    if not request.stream:
        await exchange.answer(200, json_body(request, exchange.nonce, exchange.size), *headers)
        return
    await exchange.head(200, *EVENT_STREAM, *headers)
    for event in events(request, exchange.nonce, exchange.size):
        await exchange.chunk(event)
        if interval:
            await exchange.silence(interval)
    await exchange.write(b"0\r\n\r\n")
