"""Plain data as YAML text, in the order in which people write a configuration. The inverse of reading one."""

import io
import json
from typing import Any

from routing.config.schema import Timeouts

_INHERITED = frozenset(Timeouts.model_fields)
_LAST = ("default_query", "default_headers", "cache_params", "price", "params", "models")
_NEVER_FOLDED = 1_000_000


def block(data: Any) -> str:
    """One line per value, ending with a line break."""
    return _written(data, flow=False)


def flow(data: Any, quote: str | None = None) -> str:
    """In one line, good in any place. quote: how a text is quoted, if it must not be as is usual."""
    if isinstance(data, str) and quote == '"':
        return _in_double_quotes(data)
    if isinstance(data, str) and quote == "'":
        return "'" + data.replace("'", "''") + "'"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(flow, data)) + "]"
    if isinstance(data, str) and data.startswith(("?", ":")):  # within braces the reader takes them for marks
        return _in_double_quotes(data)
    return _written([data], flow=True).strip()[1:-1]


def in_order(value: Any, key: str = "") -> Any:
    """Plain data with names first, deadlines after them, what is nested last. key: what the value stands under."""
    if isinstance(value, list):
        return [in_order(item, key) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, dict):
        return value
    if key in ("default_query", "default_headers"):
        return dict(sorted(value.items()))
    late = _INHERITED if key in ("model_groups", "models") else frozenset()
    rank = {name: 2 + _LAST.index(name) if name in _LAST else int(name in late) for name in value}
    return {name: in_order(value[name], name) for name in sorted(value, key=rank.__getitem__)}


def _in_double_quotes(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _written(data: Any, *, flow: bool) -> str:
    from ruamel.yaml import YAML  # 2 MB that most workers never need

    yaml = YAML(pure=True)
    yaml.default_flow_style = flow
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = _NEVER_FOLDED
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()
