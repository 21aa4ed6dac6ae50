"""What clients ask of the mock, parsed once; fields that change no answer are left out."""

from typing import Any

import msgspec


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatAsked(msgspec.Struct, frozen=True):
    messages: list[Message]
    model: str = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionAsked(msgspec.Struct, frozen=True):
    model: str = ""
    prompt: Any = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1


class ResponseAsked(msgspec.Struct, frozen=True):
    model: str = ""
    input: str | list[dict[str, Any]] | None = ""
    stream: bool | None = False
    background: bool | None = False
    store: bool | None = True
    include: list[str] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


class EmbeddingsAsked(msgspec.Struct, frozen=True):
    input: str | list[str | int | list[int]]
    model: str = ""
    dimensions: int | None = None
    encoding_format: str | None = "float"


class ModerationAsked(msgspec.Struct, frozen=True):
    input: str | list[Any]
    model: str = "omni-moderation-latest"


def text_of(content: str | list[dict[str, Any]] | None) -> str:
    """The text of a message: its string, or its text parts joined."""
    if isinstance(content, str):
        return content
    return " ".join(str(part["text"]) for part in content or () if "text" in part)


def example(schema: dict[str, Any], text: str) -> Any:
    """A value that fits a JSON schema well enough: strings are `text`, the first of an enumeration is taken."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: example(part, text) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {"type": "string"}), text)]
    return {"string": text, "integer": 1, "number": 1.5, "boolean": True}.get(str(kind))


def wanted_tool(
    tools: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None
) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters' schema of the function that the mock calls: the chosen one, else the first."""
    named = (choice.get("function") or choice).get("name") if isinstance(choice, dict) else None
    for tool in tools or () if choice != "none" else ():
        function = tool.get("function") or tool
        if "name" in function and named in (None, function["name"]):
            return function["name"], function.get("parameters") or {}
    return None
