"""YAML bytes as plain data, with the line and column of everything in it.

Refuses what a configuration never needs: aliases, tags, several documents, deep nesting, big files. Finds double keys.
Text that is no number, switch or null stays text, dates too.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode

from routing.config.wording import Place, Problem
from routing.config.yaml_places import Position, Tree, YamlRefused

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_tree(content: bytes) -> Tree:
    """Raises YamlRefused; double keys are problems of the tree, of which the first one counts."""
    return _Builder(_text(content)).tree()


def _text(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise YamlRefused(Position(1, 1), "the file is larger than 1 MiB, too large for a configuration")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        raise YamlRefused(_end_of(before), "is not UTF-8 text: save the file as UTF-8") from None
    if found := _UNPRINTABLE.search(text):
        raise YamlRefused(_end_of(text[: found.start()]), "a control character: is this a text file?")
    return text


def _end_of(text: str) -> Position:
    return Position(text.count("\n") + 1, len(text) - text.rfind("\n"))


def _start(event: Event) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


class _Builder:
    """Builds the tree from the parser's events in one pass."""

    def __init__(self, text: str) -> None:
        self._yaml = YAML(typ="safe", pure=True)
        self._events = self._checked(text)
        self._tree = Tree()

    def tree(self) -> Tree:
        next(self._events)  # start of the stream
        event = next(self._events)
        if isinstance(event, StreamEndEvent):
            return self._tree
        self._tree.data = self._value(next(self._events), ())
        next(self._events)  # end of the document
        event = next(self._events)
        if not isinstance(event, StreamEndEvent):
            raise YamlRefused(_start(event), "a second document: a configuration is one document, without ---")
        return self._tree

    def _checked(self, text: str) -> Iterator[Event]:
        depth = 0
        try:
            for event in self._yaml.parse(text):
                depth += isinstance(event, MappingStartEvent | SequenceStartEvent)
                depth -= isinstance(event, MappingEndEvent | SequenceEndEvent)
                if depth > MAX_DEPTH:
                    raise YamlRefused(_start(event), f"nested deeper than {MAX_DEPTH} levels")
                _refuse_extras(event)
                yield event
        except MarkedYAMLError as error:
            raise _explained(error) from None
        except (YAMLError, ValueError) as error:
            raise YamlRefused(Position(1, 1), f"is not YAML: {error}") from None

    def _value(self, event: Event, place: Place) -> Any:
        self._tree.values[place] = _start(event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(place)
        return self._scalar(event) if isinstance(event, ScalarEvent) else None

    def _sequence(self, place: Place) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*place, len(items))))
        return items

    def _mapping(self, place: Place) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise YamlRefused(_start(event), "a key must be plain text: put quotes around it or around the value")
            key = str(event.value)
            here = (*place, key)
            if key in pairs:
                first = self._tree.keys[here]
                double = Problem(here, f"stands here twice, first in line {first.line}: remove one", at_key=True)
                self._tree.problems.append((_start(event), double))
                self._skip(next(self._events))
                continue
            self._tree.keys[here] = _start(event)
            event = next(self._events)
            pairs[key] = self._value(event, here)
            if pairs[key] is None:  # an empty value "stands" wherever the next thing begins: point at its key
                self._tree.values[here] = self._tree.keys[here]
        return pairs

    def _skip(self, event: Event) -> None:
        """Reads a value without keeping it or its positions."""
        depth = 0
        while True:
            depth += isinstance(event, MappingStartEvent | SequenceStartEvent)
            depth -= isinstance(event, MappingEndEvent | SequenceEndEvent)
            if depth == 0:
                return
            event = next(self._events)

    def _scalar(self, event: ScalarEvent) -> Any:
        text = str(event.value)
        tag = event.tag or self._yaml.resolver.resolve(ScalarNode, text, event.implicit)
        convert = _SCALARS.get(str(tag).removeprefix(_TAG))
        try:
            return convert(text) if convert else text
        except ValueError:
            return text


def _whole(text: str) -> int:
    plain = text.replace("_", "").lower()
    return int(plain, 0) if plain.lstrip("+-")[:2] in ("0x", "0o", "0b") else int(plain)


def _number(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() in ("true", "yes", "on"),
    "int": _whole,
    "float": _number,
}


def _refuse_extras(event: Event) -> None:
    if isinstance(event, AliasEvent):
        raise YamlRefused(_start(event), "an alias (*name) is not allowed: write the value out")
    if isinstance(event, NodeEvent) and event.anchor is not None:
        raise YamlRefused(_start(event), "an anchor (&name) is not allowed: write the value out where it is needed")
    if isinstance(event, MappingStartEvent | SequenceStartEvent | ScalarEvent) and event.tag is not None:
        raise YamlRefused(_start(event), "a tag (!name) is not allowed: write the plain value")
    if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
        raise YamlRefused(_start(event), "a directive (%) is not allowed: remove the line")


def _explained(error: MarkedYAMLError) -> YamlRefused:
    mark = error.problem_mark or error.context_mark
    position = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    problem = " ".join(str(error.problem or "is not YAML").split())
    for part, remedy in _REMEDIES.items():
        if part in problem:
            return YamlRefused(position, remedy)
    context = f"{error.context}, " if error.context else ""
    return YamlRefused(position, f"is not YAML: {context}{problem}")


_REMEDIES = {
    "unexpected end of stream": "the file ends within quotes that were never closed",
    "expected ',' or": "a [ or { that is not closed, or a comma is missing",
    "'\\t'": "a tab: indent with spaces",
    "mapping values are not allowed": "a second `: ` in one value (quote it), or a wrong indent",
    "could not find expected ':'": "a key without `:` after it",
    "expected <block end>": "the indent does not match the lines above",
    "cannot start any token": "begins with a character that means something in YAML: put the value in quotes",
}
