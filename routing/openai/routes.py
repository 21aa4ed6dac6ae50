"""The OpenAI routes that are served, and how a path is found among them.

Rules: platform.openai.com/docs/api-reference. Every route is there with and without the `/v1` prefix.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["generate", "item", "models"]
Events = Literal["chat", "responses", "none"]


@dataclass(frozen=True, slots=True)
class Route:
    """What a path and method mean."""

    operation: str  # path below the provider's base
    kind: Kind  # generate: has a body that names a model; item: names a stored response; models: our own list
    events: Events = "none"  # what its streams are made of


@dataclass(frozen=True, slots=True)
class Match:
    """A path that was found."""

    route: Route
    item: str = ""  # the response id or model id, percent-decoded


CHAT = Route("chat/completions", "generate", "chat")
COMPLETIONS = Route("completions", "generate", "chat")
EMBEDDINGS = Route("embeddings", "generate")
MODERATIONS = Route("moderations", "generate")
RESPONSES = Route("responses", "generate", "responses")
COMPACT = Route("responses/compact", "generate")
INPUT_TOKENS = Route("responses/input_tokens", "generate")
RETRIEVE = Route("responses/{id}", "item", "responses")
CANCEL = Route("responses/{id}/cancel", "item")
INPUT_ITEMS = Route("responses/{id}/input_items", "item")
MODELS = Route("models", "models")
MODEL = Route("models/{id}", "models")

_FIXED: dict[str, dict[str, Route]] = {
    **{route.operation: {"POST": route} for route in (CHAT, COMPLETIONS, EMBEDDINGS, MODERATIONS, RESPONSES)},
    **{route.operation: {"POST": route} for route in (COMPACT, INPUT_TOKENS)},
    "models": {"GET": MODELS},
}
# Methods by path, each with and without the prefix: one look-up for nearly every request.
BY_PATH: dict[str, dict[str, Match]] = {
    prefix + path: {method: Match(route) for method, route in methods.items()}
    for path, methods in _FIXED.items()
    for prefix in ("/", "/v1/")
}

# No id is a dot segment: an upstream would take it for a path of its own.
_ITEM = re.compile(r"/(?:v1/)?responses/(?P<id>(?!\.\.?(?:/|$))[^/]+)(?P<rest>/cancel|/input_items)?")
_MODEL = re.compile(r"/(?:v1/)?models/(?P<id>.+)")
_ITEM_METHODS: dict[str, dict[str, Route]] = {
    "": {"GET": RETRIEVE, "DELETE": RETRIEVE},
    "/cancel": {"POST": CANCEL},
    "/input_items": {"GET": INPUT_ITEMS},
}


def find(path: str) -> dict[str, Match] | None:
    """What `path` (percent-decoded) offers, by method; None: it is not one of these routes."""
    if (methods := BY_PATH.get(path)) is not None:
        return methods
    if found := _ITEM.fullmatch(path):
        routes = _ITEM_METHODS[found["rest"] or ""]
        return {method: Match(route, found["id"]) for method, route in routes.items()}
    if found := _MODEL.fullmatch(path):
        return {"GET": Match(MODEL, found["id"])}
    return None


def serves(path: str) -> bool:
    """Whether the path belongs to the OpenAI routes, known or not: `/v1/...` does, so that errors have their shape."""
    return path in BY_PATH or path.startswith(("/v1/", "/responses/", "/models/"))
