"""JSON as a client may spell it: a scalar is its own text, an object maps spelled keys to values, an array is a list."""

import json
import random

SCALARS = ["null", "true", "false", "0", "-0", "1", "1.0", "1e0", "1E+0", "-17", "0.70", "9007199254740993", "1e400",
           "18446744073709551616", "-123456789012345678901234567890", "3.141592653589793238462643383279"]  # fmt: skip
CHARACTERS = ["a", "b", "é", "€", "😀", "/", " ", ",", ":", "{", "]", "-0", "\x7f", "\x7f~", "'", "~",
              "\\n", '\\"', "\\\\", "\\/", "\\u0041", "\\u001f", "\\u001F", "\\u00e9", "\\ud83d\\ude00", "\\b"]  # fmt: skip


def text(rng: random.Random, longest: int = 6) -> str:
    return '"' + "".join(rng.choice(CHARACTERS) for _ in range(rng.randrange(longest))) + '"'


def value(rng: random.Random, depth: int = 3):
    kind = rng.randrange(6 if depth else 3)
    if kind == 0:
        return rng.choice(SCALARS)
    if kind < 3:
        return text(rng)
    if kind == 3:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return members(rng, depth)


def members(rng: random.Random, depth: int = 3):
    """An object: no key stands twice in it, in whatever spelling."""
    found = {}
    for _ in range(rng.randrange(5)):
        key = text(rng, 4)
        found[json.loads(key)] = key
    return {key: value(rng, depth - 1) for key in found.values()}


def body(rng: random.Random):
    return {'"model"': '"m"', '"messages"': [value(rng)], **members(rng)}


def written(node, rng: random.Random, spaces: list[str]) -> str:
    """With keys in any order and any of `spaces` between any two tokens."""

    def space() -> str:
        return rng.choice(spaces)

    if isinstance(node, str):
        return node
    if isinstance(node, list):
        inner = [space() + written(item, rng, spaces) + space() for item in node]
        return "[" + (",".join(inner) or space()) + "]"
    keys = list(node)
    rng.shuffle(keys)
    inner = [f"{space()}{key}{space()}:{space()}{written(node[key], rng, spaces)}{space()}" for key in keys]
    return "{" + (",".join(inner) or space()) + "}"


def meaning(node):
    """Equal for two nodes that differ in nothing but the order of keys."""
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return tuple(meaning(item) for item in node)
    return frozenset((key, meaning(inner)) for key, inner in node.items())


def has_double_key(node) -> bool:
    """In one spelling or in two."""
    if isinstance(node, str):
        return False
    inner = node.values() if isinstance(node, dict) else node
    doubled = isinstance(node, dict) and len({json.loads(key) for key in node}) < len(node)
    return doubled or any(has_double_key(item) for item in inner)


# -- one difference


def changed_body(tree: dict, rng: random.Random) -> dict:
    """The same but for one place, at any level."""
    other = changed(tree, rng)
    return other if isinstance(other, dict) else _with_another_key(tree, rng)


def changed(node, rng: random.Random):
    inner = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    if len(inner) == 0 or rng.random() < 0.3:
        return _changed_here(node, rng)
    place = rng.choice(inner)
    if isinstance(node, list):
        return [changed(item, rng) if at == place else item for at, item in enumerate(node)]
    if rng.random() < 0.3:
        return {(_changed_text(key, rng) if key == place else key): item for key, item in node.items()}
    return {key: changed(item, rng) if key == place else item for key, item in node.items()}


def _changed_here(node, rng: random.Random):
    if isinstance(node, str):
        return rng.choice([_changed_text, _wrapped, _other_scalar])(node, rng)
    if isinstance(node, list):
        return rng.choice([_reordered, _longer, _shorter, _wrapped])(node, rng)
    return rng.choice([_with_another_key, _without_a_key, _wrapped])(node, rng)


def _changed_text(node: str, rng: random.Random) -> str:
    if not node.startswith('"'):
        return rng.choice([f'"{node}"', _respelled_number(node)])
    inner = node[1:-1]
    respelled = [
        inner.replace("a", "\\u0061", 1),
        inner.replace("\\u001f", "\\u001F", 1),
        inner.replace("\\/", "/", 1),
        inner.replace("\\n", "\\u000a", 1),
        inner.replace("é", "\\u00e9", 1),
        inner.replace("\\u0041", "\x7fu0041", 1),
        inner + " ",
        " " + inner,
        inner + rng.choice(CHARACTERS),
    ]
    return f'"{rng.choice([text for text in respelled if text != inner])}"'


def _respelled_number(node: str) -> str:
    if node[-1].isdigit():
        return node + "e0" if "e" not in node and "E" not in node else node + "0"
    return {"true": "false", "false": "null", "null": "0"}[node]


def _wrapped(node, _rng: random.Random):
    return [node]


def _other_scalar(node: str, rng: random.Random) -> str:
    return rng.choice([scalar for scalar in [*SCALARS, '""', '"x"'] if scalar != node])


def _reordered(node: list, rng: random.Random) -> list:
    return node[1:] + node[:1]


def _longer(node: list, rng: random.Random) -> list:
    return [*node, rng.choice([*SCALARS, [], {}])]


def _shorter(node: list, _rng: random.Random) -> list:
    return node[:-1]


def _with_another_key(node: dict, rng: random.Random) -> dict:
    return node | {'"another"': rng.choice(SCALARS)}


def _without_a_key(node: dict, rng: random.Random) -> dict:
    gone = rng.choice(list(node)) if node else None
    return {key: item for key, item in node.items() if key != gone}
