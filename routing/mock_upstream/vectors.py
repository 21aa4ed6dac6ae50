"""Embeddings, moderations and the list of models."""

import base64
import hashlib
import struct
from typing import Any

from routing.mock_upstream.answer import CREATED, Answer, encode, json_answer, refusal, tokens
from routing.mock_upstream.asked import EmbeddingsAsked, ModerationAsked

MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo-instruct", "omni-moderation-latest", "text-embedding-3-small")
_DIMENSIONS = 16  # real ones have 1,536; tests and demos need no such volume
_CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


def _vector(text: str, dimensions: int) -> list[float]:
    """Always the same vector for the same text, of length 1, exact in 32-bit floats."""
    seed = hashlib.shake_128(text.encode()).digest(dimensions)
    raw = [byte - 127.5 for byte in seed]
    norm = sum(value * value for value in raw) ** 0.5
    values: tuple[float, ...] = struct.unpack(
        f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(value / norm for value in raw))
    )
    return list(values)


def embeddings(asked: EmbeddingsAsked) -> Answer:
    dimensions = _DIMENSIONS if asked.dimensions is None else asked.dimensions
    if not 0 < dimensions <= 4096:
        return refusal(400, "'dimensions' must be between 1 and 4096.", "dimensions")
    single = isinstance(asked.input, str) or (bool(asked.input) and isinstance(asked.input[0], int))
    inputs: Any = [asked.input] if single else asked.input
    texts = [one if isinstance(one, str) else encode(one).decode() for one in inputs]
    if not texts:
        return refusal(400, "'input' must not be empty.", "input")
    used = sum(map(tokens, texts))
    data = []
    for index, text in enumerate(texts):
        vector: Any = _vector(text, dimensions)
        if asked.encoding_format == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": used, "total_tokens": used}
    return json_answer({"object": "list", "data": data, "model": asked.model, "usage": usage})


def moderation(asked: ModerationAsked) -> Answer:
    """Nothing is ever flagged but texts that hold the word "violence"."""
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    results = []
    for one in inputs:
        flagged = "violence" in (one if isinstance(one, str) else str(one.get("text", "")))
        categories = {name: flagged and name == "violence" for name in _CATEGORIES}
        scores = {name: 0.99 if on else 0.0001 for name, on in categories.items()}
        kinds: dict[str, list[str]] = {name: ["text"] for name in _CATEGORIES}
        results.append(
            {
                "flagged": flagged,
                "categories": categories,
                "category_scores": scores,
                "category_applied_input_types": kinds,
            }
        )
    digest = hashlib.md5(encode(asked.input), usedforsecurity=False).hexdigest()
    return json_answer({"id": "modr-" + digest, "model": asked.model, "results": results})


def _model(identity: str) -> dict[str, Any]:
    return {"id": identity, "object": "model", "created": CREATED, "owned_by": "mock"}


def models() -> Answer:
    return json_answer({"object": "list", "data": [_model(identity) for identity in MODELS]})


def model(identity: str) -> Answer:
    if identity in MODELS:
        return json_answer(_model(identity))
    return refusal(404, f"The model '{identity}' does not exist", "model", "model_not_found")
