"""A file brought up to date with a configuration: only what differs is written anew.

Comments, order, quotes and spelled-out defaults of everything else stay byte by byte. A group or endpoint is moved with
the comments above it.
"""

from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from routing.config.schema import Configuration, EndpointConfig, default_name, with_name
from routing.config.yaml_file import FileInvalid, ParsedFile, parse
from routing.config.yaml_spans import Blocks, Pair, YamlText, is_empty, pairs_of
from routing.config.yaml_text import block, flow, in_order

Plain = dict[str, Any]

_LISTS = ("model_groups", "models")


def updated(content: bytes, parsed: ParsedFile, configuration: Configuration) -> bytes | None:
    """content: what `parsed` was read from. None: it is spelled in a way that cannot be kept."""
    if parsed.configuration == configuration:
        return content
    mark = "\ufeff" if content.startswith(b"\xef\xbb\xbf") else ""
    source = YamlText(content.decode("utf-8-sig"))
    wanted = _without_needless_names(parsed, configuration)
    try:
        _Update(source).mapping(source.root, parsed.configuration.plain(), configuration.plain(), wanted)
        made = (mark + source.edited()).encode()
        good = parse(made, parsed.name).configuration == configuration
    except (FileInvalid, ValueError):  # where something stands is guessed by the usual spellings
        return None
    return made if good else None


class _Update:
    """Turns differences into edits. old and new are all values; wanted: those of new that must be said."""

    def __init__(self, source: YamlText) -> None:
        self._source = source

    def mapping(self, node: MappingNode, old: Plain, new: Plain, wanted: Plain, kind: str = "") -> None:
        """kind: the key that the mapping, or the list around it, stands under."""
        said = {str(key.value): (key, value) for key, value in pairs_of(node)}
        staying = _staying(node, old, new)
        if not staying:  # the whole file was {}
            self._source.replace(*self._source.span_of(node), block(in_order(wanted)).removesuffix("\n"))
            return
        for name in staying:
            self._pair(said[name], old.get(name), new[name], wanted.get(name))
        self._remove(node, staying)
        order = list(in_order(new, kind))
        for name in order:
            if name in wanted and name not in said:
                before = [said[known] for known in order[: order.index(name)] if known in staying]
                self._insert(node, before[-1] if before else None, said[staying[0]], {name: wanted[name]}, kind)

    def _pair(self, pair: Pair, old: Any, new: Any, wanted: Any) -> None:
        key, value = pair
        name = str(key.value)
        if old == new and name not in _LISTS:
            return
        if name in _LISTS and isinstance(value, SequenceNode) and value.value and new:
            self._items(name, value, old, new, wanted)
        elif isinstance(new, dict) and isinstance(value, MappingNode) and _staying(value, old, new):
            self.mapping(value, old, new, wanted or {}, name)
        elif old != new:
            self._set(pair, (wanted or {}) if isinstance(new, dict) else wanted or [] if name in _LISTS else new, name)

    def _set(self, pair: Pair, new: Any, name: str) -> None:
        key, value = pair
        start, end = self._source.span(pair)
        new = in_order(new, name)
        if isinstance(value, ScalarNode) and not is_empty(value) and not _nested(new):
            self._source.say(start, end, flow(new, value.style))
            return
        colon = self._source.behind_colon(key)
        if _nested(new) and not self._source.in_braces(key):
            inside = _indented(block(new), int(key.start_mark.column) + (0 if isinstance(new, list) else 2))
            self._source.replace(colon, end, "\n" + inside.removesuffix("\n"))
        else:
            self._source.say(colon, end, " " + flow(new))

    # -- keys

    def _remove(self, node: MappingNode, staying: list[str]) -> None:
        pairs = list(pairs_of(node))
        first = next(index for index, (key, _) in enumerate(pairs) if str(key.value) in staying)
        leading = not node.flow_style and self._source.begins_line(pairs[0][0])
        for index, (key, _) in enumerate(pairs):
            if str(key.value) in staying:
                continue
            start, end = int(key.start_mark.index), self._source.span(pairs[index])[1]
            if node.flow_style and index > first:
                self._source.replace(self._source.span(pairs[index - 1])[1], end, "")
            elif index > first or leading:
                self._source.replace(self._source.line_start(start), self._source.next_line(end), "")
            else:  # in front of all that stays, behind a dash or a brace
                self._source.replace(start, int(pairs[index + 1][0].start_mark.index), "")

    def _insert(self, node: MappingNode, before: Pair | None, first: Pair, new: Plain, kind: str) -> None:
        """Behind the pair that comes before it; there is none: in front of the first one, if that begins its line."""
        new = in_order(new, kind)
        if node.flow_style:
            ((name, value),) = new.items()
            at = self._source.span(before or first)[1]
            self._source.replace(at, at, f", {flow(name)}: {flow(value)}")
            return
        if before is None and self._source.begins_line(first[0]):
            at = self._source.line_start(first[0].start_mark.index)
        else:
            at = self._below(before or first)
        self._source.replace(at, at, _indented(block(new), int(node.start_mark.column)))

    def _below(self, pair: Pair) -> int:
        key, value = pair
        if str(key.value) in _LISTS and isinstance(value, SequenceNode) and not value.flow_style:
            return Blocks(self._source, value).spans[-1][1]
        return self._source.next_line(self._source.span(pair)[1])

    # -- groups and endpoints

    def _items(self, kind: str, node: SequenceNode, old: list[Plain], new: list[Plain], wanted: list[Plain]) -> None:
        partners = _partners(kind, old, new)
        for item, index, needed in zip(new, partners, wanted, strict=True):
            if index is not None:
                self.mapping(node.value[index], old[index], item, needed, kind)
        if partners == list(range(len(old))):
            return
        if node.flow_style:
            self._rebuild_flow(node, partners, [in_order(item, kind) for item in wanted])
        else:
            self._rebuild_block(node, partners, [in_order(item, kind) for item in wanted])

    def _rebuild_flow(self, node: SequenceNode, partners: list[int | None], wanted: list[Plain]) -> None:
        spans = [(int(item.start_mark.index), int(item.end_mark.index)) for item in node.value]
        texts = [self._source.take(*span) for span in spans]
        between = self._source.text[spans[0][1] : spans[1][0]] if len(spans) > 1 else ", "
        made = [flow(item) if index is None else texts[index] for item, index in zip(wanted, partners, strict=True)]
        self._source.replace(spans[0][0], spans[-1][1], between.join(made).replace("\r\n", "\n"))

    def _rebuild_block(self, node: SequenceNode, partners: list[int | None], wanted: list[Plain]) -> None:
        blocks = Blocks(self._source, node)
        texts = [self._source.take(*span) for span in blocks.spans]
        between = blocks.separators or [""]
        made = ""
        for number, (item, index) in enumerate(zip(wanted, partners, strict=True)):
            text = _indented(block([item]), blocks.column - 2) if index is None else texts[index]
            made += between[min(number, len(between)) - 1] if number else ""
            made += text if text.endswith("\n") else text + "\n"
        self._source.replace(blocks.spans[0][0], blocks.spans[-1][1], made.replace("\r\n", "\n"))


def _staying(node: Node, old: Plain, new: Plain) -> list[str]:
    """Keys of a mapping that have a value still, or none as before."""
    names = [str(key.value) for key, _ in pairs_of(node)]
    return [name for name in names if new.get(name) is not None or (name in new and old.get(name) is None)]


def _partners(kind: str, old: list[Plain], new: list[Plain]) -> list[int | None]:
    """For each new item the old one that it was: the one of its name, else one that nobody claims and that is alike."""
    key, alike = ("model_group", _share_an_endpoint) if kind == "model_groups" else ("name", _same_upstream)
    by_name = {item[key]: index for index, item in enumerate(old)}
    found = [by_name.get(item[key]) for item in new]
    free = [index for index in range(len(old)) if index not in found]
    for number, item in enumerate(new):
        match = next((index for index in free if alike(old[index], item)), None) if found[number] is None else None
        if match is not None:
            found[number] = match
            free.remove(match)
    return found


def _share_an_endpoint(old: Plain, new: Plain) -> bool:
    return not {one["name"] for one in old["models"]}.isdisjoint(one["name"] for one in new["models"])


def _same_upstream(old: Plain, new: Plain) -> bool:
    return bool(old["model"] == new["model"] and old["params"]["base_url"] == new["params"]["base_url"])


def _without_needless_names(parsed: ParsedFile, configuration: Configuration) -> Plain:
    """What must be said, without names that endpoints have anyway: as the file left them out, or by default."""
    endpoints = [endpoint for group in configuration.model_groups for endpoint in group.models]
    groups = zip(parsed.configuration.model_groups, parsed.tree.data.get("model_groups") or [], strict=True)
    unsaid = {
        endpoint.name
        for group, said in groups
        for endpoint, words in zip(group.models, said.get("models") or [], strict=True)
        if not words.get("name")
    }
    needless = {one.name for one in endpoints if one.name in unsaid or one.name == default_name(one)}
    while wrong := needless - _given(endpoints, needless):
        needless -= wrong
    wanted = configuration.plain(without_defaults=True)
    for group in wanted.get("model_groups", []):
        for endpoint in group.get("models", []):
            if endpoint["name"] in needless:
                del endpoint["name"]
    return wanted


def _given(endpoints: list[EndpointConfig], nameless: set[str]) -> set[str]:
    """The names that endpoints get which have none in the file."""
    taken = {endpoint.name for endpoint in endpoints if endpoint.name not in nameless}
    given = set()
    for endpoint in endpoints:
        if endpoint.name in nameless:
            name = with_name(endpoint.model_copy(update={"name": ""}), taken).name
            given |= {name} & {endpoint.name}
    return given


def _nested(value: Any) -> bool:
    """Whether it takes lines of its own."""
    return bool(value) and (isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict)))


def _indented(lines: str, column: int) -> str:
    if column < 0:
        return "".join(line[-column:] for line in lines.splitlines(keepends=True))
    return "".join(" " * column + line for line in lines.splitlines(keepends=True))
