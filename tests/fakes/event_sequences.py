"""What upstreams say, kind by kind: every event of a stream, and the JSON answer that says the same.

Shapes: OpenAI API reference, "Chat completion chunk object", "Streaming events" of responses, and the objects they make
up; `reasoning_content` as compatible servers send it. Words and values are made up.
"""

import json
from dataclasses import dataclass, field
from typing import Any

Dict = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Kind:
    """One kind of answer."""

    operation: str  # "chat.completions", "completions", "responses"
    events: tuple[bytes, ...]
    answer: bytes
    asked: Dict = field(default_factory=dict)  # what a request for it says beside model and question


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# -- chat completions

_USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 13,
    "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                  "rejected_prediction_tokens": 0},
}  # fmt: skip
_HEAD = {"id": "chatcmpl-Zq7", "created": 1760000000, "model": "upstream-model-2", "system_fingerprint": "fp_9a"}


def _chunk(choices: list[Dict], **more: Any) -> bytes:
    return b"data: " + _json({"object": "chat.completion.chunk"} | _HEAD | {"choices": choices} | more) + b"\n\n"


def _delta(delta: Dict, finish: str | None = None, index: int = 0, **more: Any) -> Dict:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish} | more


def _message(message: Dict, finish: str, index: int = 0, **more: Any) -> Dict:
    said = {"role": "assistant", "content": None, "refusal": None} | message
    return {"index": index, "message": said, "logprobs": None, "finish_reason": finish} | more


def _chat(deltas: list[Dict], message: Dict, finish: str = "stop", asked: Dict | None = None, **more: Any) -> Kind:
    """One choice; the role comes first, the ending last."""
    begin = _delta({"role": "assistant", "content": "", "refusal": None}, **more)
    steps = [begin, *(_delta(delta, **more) for delta in deltas), _delta({}, finish, **more)]
    return _chat_of([[step] for step in steps], [_message(message, finish, **more)], asked)


def _chat_of(steps: list[list[Dict]], choices: list[Dict], asked: Dict | None = None) -> Kind:
    answer = {"object": "chat.completion"} | _HEAD | {"choices": choices, "usage": _USAGE, "service_tier": "default"}
    return Kind("chat.completions", (*map(_chunk, steps), DONE), _json(answer), asked or {})


def _tool(name: str, **parameters: str) -> Dict:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


def _call(index: int, **fields: Any) -> Dict:
    return {"tool_calls": [{"index": index} | fields]}


def _logprob(token: str, value: float) -> Dict:
    one = {"token": token, "logprob": value, "bytes": list(token.encode())}
    return one | {"top_logprobs": [one, {"token": "?", "logprob": -9.25, "bytes": None}]}


def _with_logprobs() -> Kind:
    tokens = [("Ja", -0.01), (",", -0.5), (" ☕", -1.25e-7)]
    told = [
        [_delta({"content": token}, logprobs={"content": [_logprob(token, p)], "refusal": None})] for token, p in tokens
    ]
    whole = {"content": [_logprob(token, p) for token, p in tokens], "refusal": None}
    steps = [[_delta({"role": "assistant", "content": ""})], *told, [_delta({}, "stop")]]
    return _chat_of(
        steps, [_message({"content": "Ja, ☕"}, "stop", logprobs=whole)], {"logprobs": True, "top_logprobs": 2}
    )


def _two_choices() -> Kind:
    steps = [
        [_delta({"role": "assistant", "content": ""})],
        [_delta({"role": "assistant", "content": ""}, index=1)],
        [_delta({"content": "North"}, index=1)],
        [_delta({"content": "South"}), _delta({"content": "ward"}, index=1)],
        [_delta({}, "length", index=1)],
        [_delta({"content": " wind"})],
        [_delta({}, "stop")],
    ]
    return _chat_of(
        steps, [_message({"content": "South wind"}, "stop"), _message({"content": "Northward"}, "length", 1)], {"n": 2}
    )


def _counted() -> Kind:
    """As asked for with `stream_options.include_usage`: null in every chunk, and one more at the end."""
    steps = [[_delta({"role": "assistant", "content": ""})], [_delta({"content": "Seven."})], [_delta({}, "stop")]]
    chunks = [_chunk(choices, usage=None) for choices in steps]
    whole = _chat_of(steps, [_message({"content": "Seven."}, "stop")])
    last = _chunk([], usage=_USAGE)
    return Kind(whole.operation, (*chunks, last, DONE), whole.answer, {"stream_options": {"include_usage": True}})


def _azure() -> Kind:
    """Judgements of the prompt come first, those of the answer with it."""
    fine = {"hate": {"filtered": False, "severity": "safe"}}
    judged = [{"prompt_index": 0, "content_filter_results": fine}]
    first = b"data: " + _json({"id": "", "object": "", "created": 0, "model": "", "choices": [],
                               "prompt_filter_results": judged}) + b"\n\n"  # fmt: skip
    said = _chat([{"content": "Guten "}, {"content": "Tag"}], {"content": "Guten Tag"}, content_filter_results=fine)
    return Kind(said.operation, (first, *said.events), said.answer)


def _oddly_written() -> Kind:
    """Comments, CR LF, no space behind the colon, data in two lines."""
    said = _chat([{"content": "plain"}], {"content": "plain"})
    first, second, last, done = said.events
    events = (
        b": keep-alive\n\n",
        first.replace(b"data: ", b"data:").replace(b"\n\n", b"\r\n\r\n"),
        b": still here\r\n\r\n",
        second.replace(b'"choices"', b'\ndata: "choices"'),
        b"id: 7\nretry: 3000\n" + last,
        done,
    )
    return Kind(said.operation, events, said.answer)


_PICTURE_CALL = {"name": "draw", "input": "a (very) small boat\n"}
_WEATHER, _TIME = _tool("weather", city="string"), _tool("local_time", zone="string")
CHAT = {
    "plain": _chat(
        [{"content": "Grüße"}, {"content": " aus 東京 "}, {"content": "🗼"}], {"content": "Grüße aus 東京 🗼"}
    ),
    "tool call": _chat(
        [
            _call(0, id="call_w1", type="function", function={"name": "weather", "arguments": ""}),
            _call(0, function={"arguments": '{"ci'}),
            _call(0, function={"arguments": 'ty":"Köln"}'}),
        ],
        {
            "tool_calls": [
                {"id": "call_w1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
            ]
        },
        "tool_calls",
        {"tools": [_WEATHER]},
    ),
    "parallel tool calls": _chat(
        [
            {"content": "Let me look."},
            _call(0, id="call_a", type="function", function={"name": "weather", "arguments": ""}),
            _call(1, id="call_b", type="function", function={"name": "local_time", "arguments": ""}),
            _call(1, function={"arguments": '{"zone":"UTC"}'}),
            _call(0, function={"arguments": '{"city":"Oslo"}'}),
        ],
        {
            "content": "Let me look.",
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                {"id": "call_b", "type": "function", "function": {"name": "local_time", "arguments": '{"zone":"UTC"}'}},
            ],
        },
        "tool_calls",
        {"tools": [_WEATHER, _TIME], "parallel_tool_calls": True},
    ),
    "custom tool call": _chat(
        [
            _call(0, id="call_c", type="custom", custom={"name": "draw", "input": ""}),
            _call(0, custom={"input": "a (very) small boat\n"}),
        ],
        {"tool_calls": [{"id": "call_c", "type": "custom", "custom": _PICTURE_CALL}]},
        "tool_calls",
        {"tools": [{"type": "custom", "custom": {"name": "draw"}}]},
    ),
    "old function call": _chat(
        [
            {"function_call": {"name": "weather", "arguments": ""}},
            {"function_call": {"arguments": '{"city":'}},
            {"function_call": {"arguments": '"Rom"}'}},
        ],
        {"function_call": {"name": "weather", "arguments": '{"city":"Rom"}'}},
        "function_call",
        {"functions": [_WEATHER["function"]]},
    ),
    "reasoning content": _chat(
        [{"reasoning_content": "The user wants"}, {"reasoning_content": " a number."}, {"content": "42"}],
        {"content": "42", "reasoning_content": "The user wants a number."},
    ),
    "refusal": _chat([{"refusal": "I can't "}, {"refusal": "do that."}], {"refusal": "I can't do that."}),
    "usage": _counted(),
    "logprobs": _with_logprobs(),
    "two choices": _two_choices(),
    "length": _chat([{"content": "Once upon a"}], {"content": "Once upon a"}, "length", {"max_completion_tokens": 3}),
    "content filter": _chat([{"content": "First you"}], {"content": "First you"}, "content_filter"),
    "audio": _chat(
        [
            {"audio": {"id": "audio_77", "transcript": "Hel"}},
            {"audio": {"data": "UklGRgAAAAA=", "transcript": "lo"}},
            {"audio": {"expires_at": 1760003600}},
        ],
        {"audio": {"id": "audio_77", "data": "UklGRgAAAAA=", "transcript": "Hello", "expires_at": 1760003600}},
        asked={"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}},
    ),
    "filters told": _azure(),
    "odd spelling": _oddly_written(),
}


# -- completions, the old ones


def _text(pieces: list[str]) -> Kind:
    head = {"id": "cmpl-5", "object": "text_completion", "created": 1760000000, "model": "upstream-instruct"}
    steps = [(piece, None) for piece in pieces] + [("", "stop")]
    chunks = [
        b"data: "
        + _json(head | {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]})
        + b"\n\n"
        for text, finish in steps
    ]
    choice = {"index": 0, "text": "".join(pieces), "logprobs": None, "finish_reason": "stop"}
    answer = head | {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}}
    return Kind("completions", (*chunks, DONE), _json(answer))


COMPLETIONS = {"text": _text(["Es war", " einmal", "\n"])}


# -- responses


def _response(output: list[Dict], status: str = "completed", **more: Any) -> Dict:
    usage = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 8,
             "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 19}  # fmt: skip
    return {
        "id": "resp_5f",
        "object": "response",
        "created_at": 1760000000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "upstream-model-2",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "low", "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if status == "in_progress" else usage,
        "metadata": {},
    } | more


def _responses(
    items: list[tuple[list[Dict], Dict]], last: str = "completed", asked: Dict | None = None, **more: Any
) -> Kind:
    """items: for each what comes between `added` and `done`, and the item that is done."""
    begun = _response([], "in_progress")
    told: list[Dict] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, (between, item) in enumerate(items):
        place = {"output_index": index, "item_id": item["id"]}
        opened = {key: value for key, value in item.items() if key not in ("summary", "content", "arguments", "input")}
        opened |= {key: type(item[key])() for key in ("summary", "content", "arguments", "input") if key in item}
        told.append(
            {"type": "response.output_item.added", "output_index": index, "item": opened | {"status": "in_progress"}}
        )
        told += [event | place for event in between]
        told.append({"type": "response.output_item.done", "output_index": index, "item": item})
    whole = _response([item for _, item in items], last, **more)
    told.append({"type": f"response.{last}", "response": whole})
    events = [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event | {"sequence_number": number}))
        for number, event in enumerate(told)
    ]
    return Kind("responses", tuple(events), _json(whole), asked or {})


def _part(kind: str, pieces: list[str], deltas: str, key: str, **more: Any) -> tuple[list[Dict], Dict]:
    """The events of one content part, and the part."""
    place, whole = {"content_index": 0}, "".join(pieces)
    part = {"type": kind, key: whole} | more
    extra = {"logprobs": []} if kind == "output_text" else {}
    return [
        {"type": "response.content_part.added", "part": part | {key: ""}} | place,
        *({"type": f"response.{deltas}.delta", "delta": piece} | extra | place for piece in pieces),
        {"type": f"response.{deltas}.done", key: whole} | extra | place,
        {"type": "response.content_part.done", "part": part} | place,
    ], part


def _said(pieces: list[str], status: str = "completed", identity: str = "msg_1") -> tuple[list[Dict], Dict]:
    events, part = _part("output_text", pieces, "output_text", "text", annotations=[], logprobs=[])
    return events, {"id": identity, "type": "message", "status": status, "role": "assistant", "content": [part]}


def _refused() -> tuple[list[Dict], Dict]:
    events, part = _part("refusal", ["That I ", "won't do."], "refusal", "refusal")
    return events, {"id": "msg_r", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _called(identity: str, name: str, pieces: list[str]) -> tuple[list[Dict], Dict]:
    whole, kind = "".join(pieces), "response.function_call_arguments"
    item = {"id": f"fc_{identity}", "type": "function_call", "status": "completed", "call_id": f"call_{identity}"}
    done = {"type": f"{kind}.done", "name": name, "arguments": whole}
    return [*({"type": f"{kind}.delta", "delta": piece} for piece in pieces), done], item | {
        "name": name,
        "arguments": whole,
    }


def _called_custom() -> tuple[list[Dict], Dict]:
    kind = "response.custom_tool_call_input"
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_x", "name": "draw", "input": "two boats"}
    deltas = [{"type": f"{kind}.delta", "delta": piece} for piece in ("two ", "boats")]
    return [*deltas, {"type": f"{kind}.done", "input": "two boats"}], item | {"status": "completed"}


def _summed_up(pieces: list[str]) -> tuple[list[Dict], Dict]:
    place, whole, kind = {"summary_index": 0}, "".join(pieces), "response.reasoning_summary"
    part = {"type": "summary_text", "text": whole}
    events = [
        {"type": f"{kind}_part.added", "part": part | {"text": ""}} | place,
        *({"type": f"{kind}_text.delta", "delta": piece} | place for piece in pieces),
        {"type": f"{kind}_text.done", "text": whole} | place,
        {"type": f"{kind}_part.done", "part": part} | place,
    ]
    return events, {"id": "rs_1", "type": "reasoning", "summary": [part], "status": "completed"}


def _thought_aloud() -> tuple[list[Dict], Dict]:
    """As servers of open models show it."""
    place, kind = {"content_index": 0}, "response.reasoning_text"
    events = [{"type": f"{kind}.delta", "delta": "Hm."} | place, {"type": f"{kind}.done", "text": "Hm."} | place]
    content = [{"type": "reasoning_text", "text": "Hm."}]
    return events, {"id": "rs_2", "type": "reasoning", "summary": [], "content": content, "status": "completed"}


def _sealed() -> tuple[list[Dict], Dict]:
    return [], {"id": "rs_3", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB/own+seal=="}


def _annotated() -> tuple[list[Dict], Dict]:
    cited = {"type": "url_citation", "url": "https://example.org/a?b=c&d=é", "title": "A \"title\"", "start_index": 0,
             "end_index": 4}  # fmt: skip
    events, item = _said(["Here", " it is."])
    note = {
        "type": "response.output_text.annotation.added",
        "content_index": 0,
        "annotation_index": 0,
        "annotation": cited,
    }
    part = item["content"][0] | {"annotations": [cited]}
    events = [*events[:-1], note, events[-1] | {"part": part}]
    return events, item | {"content": [part]}


def _with_likelihoods() -> tuple[list[Dict], Dict]:
    events, item = _said(["Yes"])
    told = {"token": "Yes", "logprob": -0.0625, "bytes": [89, 101, 115], "top_logprobs": []}
    return [event | {"logprobs": [told]} if "logprobs" in event else event for event in events], item


_FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
RESPONSES = {
    "text": _responses([_said(["Grüße", " aus ", "Βερολίνο"])]),
    "refusal": _responses([_refused()]),
    "function call": _responses([_called("1", "weather", ['{"ci', 'ty":"', 'Bonn"}'])], asked={"tools": [_FUNCTION]}),
    "two function calls": _responses(
        [_called("1", "weather", ['{"city":"Ulm"}']), _called("2", "weather", ['{"city":"Aarau"}'])],
        asked={"tools": [_FUNCTION], "parallel_tool_calls": True},
    ),
    "custom tool": _responses([_called_custom()], asked={"tools": [{"type": "custom", "name": "draw"}]}),
    "reasoning summary": _responses(
        [_summed_up(["**Weighing**", " it up"]), _said(["Nine."])], asked={"reasoning": {"summary": "auto"}}
    ),
    "reasoning text": _responses([_thought_aloud(), _said(["Ten."])]),
    "sealed reasoning": _responses(
        [_sealed(), _said(["Eleven."])], asked={"include": ["reasoning.encrypted_content"], "store": False}
    ),
    "incomplete": _responses(
        [_said(["The first ", "half"], "incomplete")],
        "incomplete",
        {"max_output_tokens": 16},
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "annotations": _responses([_annotated()]),
    "logprobs": _responses([_with_likelihoods()], asked={"include": ["message.output_text.logprobs"]}),
    "two messages": _responses([_said(["One."]), _said(["Two."], identity="msg_2")]),
}

KINDS = {f"{kind.operation}: {name}": kind for group in (CHAT, COMPLETIONS, RESPONSES) for name, kind in group.items()}


# -- what says nothing that could be kept

_MUTE_RESPONSE = {"incomplete_details": {"reason": "max_output_tokens"}}
MUTE = {
    "chat.completions: nothing": _chat([], {"content": ""}),
    "chat.completions: only reasoning": _chat(
        [{"reasoning_content": "Hmm"}], {"content": None, "reasoning_content": "Hmm"}, "length"
    ),
    "chat.completions: white space": _chat([{"content": " \n"}], {"content": " \n"}),
    "chat.completions: filtered at once": _chat([], {"content": None}, "content_filter"),
    "responses: only reasoning": _responses([_summed_up(["Hm"])], "incomplete", **_MUTE_RESPONSE),
    "responses: no output": _responses([]),
    "responses: half a function call": _responses(
        [_called("1", "weather", ['{"ci'])], "incomplete", {"tools": [_FUNCTION]}, **_MUTE_RESPONSE
    ),
}


# -- embeddings and moderations, which are never streamed

EMBEDDINGS = _json(
    {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, -2.5e-08, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [3, 0.30000000000000004, -0.0]},
        ],
        "model": "upstream-embedder",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
)
PACKED_EMBEDDINGS = _json(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAMAAAEBA"}],  # 1, -2, 3
        "model": "upstream-embedder",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
)
MODERATIONS = _json(
    {
        "id": "modr-3",
        "model": "upstream-moderation",
        "results": [
            {
                "flagged": True,
                "categories": {"harassment": True, "violence": False},
                "category_scores": {"harassment": 0.91, "violence": 1.2e-05},
                "category_applied_input_types": {"harassment": ["text"], "violence": []},
            }
        ],
    }
)
