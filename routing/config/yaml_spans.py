"""Where things stand in a YAML text, and changes of that text. Knows nothing of configurations.

A span ends with what is said; comments and blank lines behind it belong to nobody.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

Pair = tuple[Node, Node]


class YamlText:
    """A text that was parsed before, so that nothing in it is a surprise; and the edits that it is to get."""

    def __init__(self, text: str) -> None:
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.text = text if text.endswith("\n") else text + self.newline
        self.root: Any = YAML(typ="safe", pure=True).compose(self.text)
        self._in_braces = list(_in_braces(self.root))
        self._edits: list[tuple[int, int, str]] = []

    # -- places

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at: int) -> int:
        """Before the line break."""
        found = self.text.find("\n", at)
        end = len(self.text) if found < 0 else found
        return end - 1 if end > at and self.text[end - 1] == "\r" else end

    def next_line(self, at: int) -> int:
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found + 1

    def begins_line(self, node: Node) -> bool:
        """Whether nothing but space stands before it."""
        return not self.text[self.line_start(_start(node)) : _start(node)].strip()

    def in_braces(self, node: Node) -> bool:
        """Whether it stands in a flow collection, where lines mean nothing."""
        return any(start < node.start_mark.index < end for start, end in self._in_braces)

    def behind_colon(self, key: Node) -> int:
        return self.text.index(":", int(key.end_mark.index)) + 1

    def span(self, pair: Pair) -> tuple[int, int]:
        """Of a pair's value."""
        key, value = pair
        if is_empty(value):
            return self.behind_colon(key), self.behind_colon(key)
        return self.span_of(value)

    def span_of(self, node: Node) -> tuple[int, int]:
        return _start(node), self.end(node)

    def end(self, node: Node) -> int:
        end = int(node.end_mark.index)
        if not isinstance(node, CollectionNode):
            folded = isinstance(node, ScalarNode) and node.style in ("|", ">")
            return _start(node) + len(self.text[_start(node) : end].rstrip()) if folded else end
        if node.flow_style:
            return end
        last = node.value[-1]
        return self.span(last)[1] if isinstance(node, MappingNode) else self.end(last)

    # -- edits

    def replace(self, start: int, end: int, text: str) -> None:
        """text: with plain line breaks. Spans do not overlap, unless one holds the other, which then comes later."""
        self._edits.append((start, end, text.replace("\n", self.newline)))

    def say(self, start: int, end: int, text: str) -> None:
        """`replace` within a line: a comment behind it stays in its column."""
        behind = self.text[end : self.line_end(end)]
        spaces = len(behind) - len(behind.lstrip(" "))
        if behind.startswith(" ") and behind.lstrip(" ").startswith("#") and "\n" not in self.text[start:end]:
            text = text + " " * max(1, end - start + spaces - len(text))
            end += spaces
        self.replace(start, end, text)

    def edited(self, start: int = 0, end: int | None = None) -> str:
        """The text between, with the edits in there."""
        end = len(self.text) if end is None else end
        inside = [edit for edit in self._edits if start <= edit[0] and edit[1] <= end]
        pieces, at = [], start
        for begin, until, text in sorted(inside, key=lambda edit: edit[:2]):
            pieces += [self.text[at:begin], text]
            at = until
        return "".join([*pieces, self.text[at:end]])

    def take(self, start: int, end: int) -> str:
        """The same, and forgets these edits: the caller puts the text elsewhere."""
        text = self.edited(start, end)
        self._edits = [edit for edit in self._edits if not (start <= edit[0] and edit[1] <= end)]
        return text


class Blocks:
    """The items of a block sequence as whole lines, each with the comments above it; and what separates them."""

    def __init__(self, source: YamlText, sequence: SequenceNode) -> None:
        self._source = source
        self.column = int(sequence.start_mark.column)
        dashes = [self._dash(item) for item in sequence.value]
        ends = [source.next_line(source.end(item)) for item in sequence.value]
        starts = [self._with_comments(dash, floor) for dash, floor in zip(dashes, [0, *ends[:-1]], strict=True)]
        self.spans: list[tuple[int, int]] = []
        self.separators: list[str] = []
        for index, start in enumerate(starts[:-1]):
            end = self._without_blank_lines(ends[index], starts[index + 1])
            self.spans.append((start, end))
            self.separators.append(source.text[end : starts[index + 1]])
        self.spans.append((starts[-1], self._tail(ends[-1])))

    def _dash(self, item: Node) -> int:
        """The start of the line with the item's dash; the item may begin lines below it."""
        start = self._source.line_start(_start(item))
        while self._source.text[start : start + self.column + 1].strip() != "-":
            if start == 0:
                raise ValueError("no dash")
            start = self._source.line_start(start - 1)
        return start

    def _with_comments(self, dash: int, floor: int) -> int:
        """Comments directly above, as far out as the dash, speak of the item."""
        start = dash
        while start > floor:
            above = self._source.line_start(start - 1)
            line = self._line(above)
            if not line.lstrip().startswith("#") or _indent(line) > self.column:
                break
            start = above
        return start

    def _without_blank_lines(self, start: int, end: int) -> int:
        while end > start and not self._line(above := self._source.line_start(end - 1)).strip():
            end = above
        return end

    def _tail(self, end: int) -> int:
        """With the comments below the last item that stand further in: values that are commented out."""
        at = end
        while at < len(self._source.text):
            line = self._line(at)
            if line.strip() and not (line.lstrip().startswith("#") and _indent(line) > self.column):
                break
            at = self._source.next_line(at)
            end = at if line.strip() else end
        return end

    def _line(self, start: int) -> str:
        return self._source.text[start : self._source.line_end(start)]


def pairs_of(node: Node) -> Iterable[Pair]:
    """Of a mapping; any other node has none."""
    return node.value if isinstance(node, MappingNode) else ()


def is_empty(node: Node) -> bool:
    """Nothing is written there."""
    return bool(node.start_mark.index == node.end_mark.index)


def _in_braces(node: Node) -> Iterator[tuple[int, int]]:
    if not isinstance(node, CollectionNode):
        return
    if node.flow_style:
        yield _start(node), int(node.end_mark.index)
        return
    for child in node.value:
        for inner in child if isinstance(child, tuple) else (child,):
            yield from _in_braces(inner)


def _start(node: Node) -> int:
    return int(node.start_mark.index)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
