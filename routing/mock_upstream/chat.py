"""Chat completions and legacy completions: bodies and events like OpenAI's, made from the question alone."""

import hashlib
from typing import Any

from routing.mock_upstream.answer import CREATED, DONE, Answer, encode, json_answer, pieces, refusal, tokens
from routing.mock_upstream.asked import ChatAsked, CompletionAsked, example, text_of, wanted_tool

_FINGERPRINT = "fp_mock"
_LAST = b'},"logprobs":null,"finish_reason":null}]}\n\n'


def _id(prefix: str, body: bytes) -> str:
    return prefix + hashlib.md5(body, usedforsecurity=False).hexdigest()


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _said(asked: ChatAsked, name: str) -> str:
    """The mock's words: who answers, for which model, and what was heard last."""
    last = asked.messages[-1]
    text = text_of(last.content)
    if asked.response_format and asked.response_format.get("type") == "json_schema":
        schema = asked.response_format.get("json_schema", {}).get("schema", {})
        return encode(example(schema, text)).decode()
    if asked.response_format and asked.response_format.get("type") == "json_object":
        return encode({"mock": name, "heard": text}).decode()
    verb = "The tool said" if last.role == "tool" else "You said"
    return f"Hello from {name} ({asked.model}). {verb}: {text}"


def _tool_call(asked: ChatAsked, identity: str) -> dict[str, Any] | None:
    """A call of the wanted function, unless the question already holds its result."""
    if asked.messages[-1].role == "tool":
        return None
    tool = wanted_tool(asked.tools, asked.tool_choice)
    if tool is None:
        return None
    function, schema = tool
    arguments = encode(example(schema, text_of(asked.messages[-1].content))).decode()
    call = {"name": function, "arguments": arguments}
    return {"id": "call_" + identity[-24:], "type": "function", "function": call}


def chat(asked: ChatAsked, body: bytes, name: str, events: int) -> Answer:
    """`events`: how many content events a stream has; 0 = one per word."""
    if not asked.messages:
        return refusal(400, "[] is too short - 'messages'", "messages")
    identity = _id("chatcmpl-", body)
    call = _tool_call(asked, identity)
    text = _said(asked, name) if call is None else call["function"]["arguments"]
    prompt = sum(tokens(text_of(message.content)) + 3 for message in asked.messages)
    if asked.stream:
        return Answer(events=_chat_events(asked, identity, call, text, (prompt, events)))
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if call is None else None,
        "refusal": None,
        "annotations": [],
    }
    if call is not None:
        message["tool_calls"] = [call]
    finish = "stop" if call is None else "tool_calls"
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish} for index in range(asked.n or 1)
    ]
    return json_answer(
        {
            "id": identity,
            "object": "chat.completion",
            "created": CREATED,
            "model": asked.model,
            "choices": choices,
            "usage": _usage(prompt, tokens(text) * len(choices)),
            "service_tier": "default",
            "system_fingerprint": _FINGERPRINT,
        }
    )


def _chat_events(
    asked: ChatAsked, identity: str, call: dict[str, Any] | None, text: str, numbers: tuple[int, int]
) -> list[bytes]:
    prompt, events = numbers
    chunk: dict[str, Any] = {
        "id": identity,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": asked.model,
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }
    wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
    if wants_usage:
        chunk["usage"] = None
    start = b"data: " + encode(chunk)[:-1] + b',"choices":'
    parts = pieces(text, events)
    sent: list[bytes] = []
    for index in range(asked.n or 1):
        sent += _choice_events(start + b'[{"index":%d,"delta":' % index, call, parts)
    if wants_usage:
        usage = _usage(prompt, tokens(text) * (asked.n or 1))
        sent.append(b"data: " + encode(chunk | {"choices": [], "usage": usage}) + b"\n\n")
    sent.append(DONE)
    return sent


def _choice_events(start: bytes, call: dict[str, Any] | None, parts: list[str]) -> list[bytes]:
    finish = b',"logprobs":null,"finish_reason":"%b"}]}\n\n'
    if call is None:
        first = start + b'{"role":"assistant","content":"","refusal":null' + _LAST
        head = start + b'{"content":'
        return [first, *(head + encode(part) + _LAST for part in parts), start + b"{}" + finish % b"stop"]
    opened = call | {"index": 0, "function": call["function"] | {"arguments": ""}}
    first = start + encode({"role": "assistant", "content": None, "tool_calls": [opened]})[:-1] + _LAST
    head = start + b'{"tool_calls":[{"index":0,"function":{"arguments":'
    return [first, *(head + encode(part) + b"}}]" + _LAST for part in parts), start + b"{}" + finish % b"tool_calls"]


def completion(asked: CompletionAsked, body: bytes, name: str, events: int) -> Answer:
    """The legacy route: one text, no roles."""
    identity = _id("cmpl-", body)
    prompt = asked.prompt if isinstance(asked.prompt, str) else encode(asked.prompt).decode()
    text = f"Hello from {name} ({asked.model}). You said: {prompt}"
    count = asked.n or 1
    usage = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(text) * count}
    usage["total_tokens"] = sum(usage.values())
    whole = {"id": identity, "object": "text_completion", "created": CREATED, "model": asked.model}
    if not asked.stream:
        choices = [_text_choice(index, text, "stop") for index in range(count)]
        return json_answer(whole | {"choices": choices, "usage": usage})
    wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
    chunk = whole | {"usage": None} if wants_usage else whole
    sent = [
        b"data: " + encode(chunk | {"choices": [_text_choice(index, part, finish)]}) + b"\n\n"
        for index in range(count)
        for part, finish in [*((part, None) for part in pieces(text, events)), ("", "stop")]
    ]
    if wants_usage:
        sent.append(b"data: " + encode(whole | {"choices": [], "usage": usage}) + b"\n\n")
    return Answer(events=[*sent, DONE])


def _text_choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
