"""Where the members of a JSON object stand in its text, and the text without one of them. Pure; parses nothing anew."""

import re
from collections.abc import Mapping

import msgspec

_KEY = re.compile(rb'[\s,{]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_END = re.compile(rb"\s*\}\s*")


class DoubleKey(ValueError):
    """A key stands twice."""


def find_members(text: bytes, values: Mapping[str, msgspec.Raw]) -> dict[str, tuple[int, int, int]]:
    """Where each key begins, where its value does, and where it ends. Raises DoubleKey.

    Walks the object by the lengths of its decoded values.
    A key that stands twice throws the walk off its path, or leaves something after the last key.
    """
    at = 0
    members = {}
    for _ in range(len(values)):
        found = _KEY.match(text, at)
        if found is None:
            raise DoubleKey
        key = found[1].decode() if b"\\" not in found[1] else msgspec.json.decode(b'"%b"' % found[1], type=str)
        value = bytes(values.get(key, b""))
        at = found.end() + len(value)
        if not value or text[found.end() : at] != value:
            raise DoubleKey
        members[key] = (found.start(1) - 1, found.end(), at)
    if _END.fullmatch(text, at) is None and values:
        raise DoubleKey
    return members


def cut(text: bytes, values: Mapping[str, msgspec.Raw], name: str) -> bytes:
    """The object without the member `name` and one comma. Raises DoubleKey."""
    members = find_members(text, values)
    places = list(members.values())
    begin, _, end = members[name]
    index = list(members).index(name)
    if index + 1 < len(places):
        end = places[index + 1][0]
    elif index:
        begin = places[index - 1][2]
    return text[:begin] + text[end:]


def put(text: bytes, values: Mapping[str, msgspec.Raw], name: str, value: bytes) -> bytes:
    """The object with another value of the member `name`. Raises DoubleKey."""
    _, begin, end = find_members(text, values)[name]
    return text[:begin] + value + text[end:]
