"""Which requests may be answered from the cache, and which answers kept, as far as the request tells. Pure.

Not kept: what has effects beside its answer, what depends on more than the request says, and what the client or the
operator does not want kept.
"""

import math
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

Reason = Literal["", "disabled", "route", "no_cache", "no_store", "background", "conversation", "store", "hosted_tool",
                 "stored_prompt", "not_deterministic", "ambiguous"]  # fmt: skip
LONGEST_TTL_S = 30 * 86_400  # that a client may ask for
_CHAT = "chat/completions"
_RESPONSES = "responses"
_SAMPLING = frozenset({_CHAT, "completions", _RESPONSES})
_CACHED = _SAMPLING | {"embeddings", "moderations"}
_ZERO = re.compile(rb"-?0(?:\.0+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(rb"-?[0-9]+")
_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ABSENT = msgspec.Raw(b"null")
# Members of a body that may say that it asks for more than an answer.
_TELLING = frozenset({"background", "conversation", "store", "prompt", "web_search_options", "tools"})


class Directives(msgspec.Struct, frozen=True):
    """What the client says about caching this request."""

    no_cache: bool = False  # neither read nor write
    no_store: bool = False  # do not write
    ttl_s: int | None = None


class Rules(msgspec.Struct, frozen=True):
    """What the configuration says for one group."""

    enabled: bool
    ttl_s: int
    policy: Literal["all", "deterministic"] = "all"
    shared: bool = False  # between client keys
    max_entry_bytes: int = 64 << 20


class CacheUse(msgspec.Struct, frozen=True, gc=False):
    """What a request may do with the cache. reason: why not everything, "" if everything; few words, for metrics."""

    read: bool
    write: bool
    ttl_s: int
    reason: Reason


class _Tool(msgspec.Struct):
    """One that the client runs: all others are run by the provider, with effects and news of their own."""

    type: Literal["function", "custom"]


class _Wishes(msgspec.Struct, rename="kebab"):
    no_cache: msgspec.Raw = _ABSENT
    no_store: msgspec.Raw = _ABSENT
    ttl: msgspec.Raw = _ABSENT


_tools_decoder = msgspec.json.Decoder(list[_Tool] | None)
_wishes_decoder = msgspec.json.Decoder(_Wishes)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decide(operation: str, values: Mapping[str, msgspec.Raw], directives: Directives | None, rules: Rules) -> CacheUse:
    """operation: the route's; values: the top level of the body."""
    reason = _why_not(operation, values, directives, rules)
    if reason:
        return bypass(reason)
    if directives is None:
        return CacheUse(True, True, rules.ttl_s, "")
    if directives.no_store:
        return CacheUse(True, False, rules.ttl_s, "no_store")
    return CacheUse(True, True, directives.ttl_s or rules.ttl_s, "")


def bypass(reason: Reason) -> CacheUse:
    """Neither read nor write."""
    return CacheUse(False, False, 0, reason)


def _why_not(operation: str, values: Mapping[str, msgspec.Raw], directives: Directives | None, rules: Rules) -> Reason:
    if operation not in _CACHED:
        return "route"
    if not rules.enabled:
        return "disabled"
    if directives is not None and directives.no_cache:
        return "no_cache"
    if operation in _SAMPLING and (reason := _more_than_an_answer(operation, values)):
        return reason
    if rules.policy == "deterministic" and operation in _SAMPLING and not _is_deterministic(values):
        return "not_deterministic"
    return ""


def _more_than_an_answer(operation: str, values: Mapping[str, msgspec.Raw]) -> Reason:
    """Why the same request may have another answer, or do more than answer."""
    if _TELLING.isdisjoint(values):
        return ""
    if "background" in values and bytes(values["background"]) == b"true":
        return "background"
    if _given(values, "conversation"):
        return "conversation"
    if operation == _CHAT and "store" in values and bytes(values["store"]) == b"true":
        return "store"
    if operation == _RESPONSES and _given(values, "prompt"):
        return "stored_prompt"  # its text, its version and its tools are known to the provider alone
    if operation == _CHAT and _given(values, "web_search_options"):
        return "hosted_tool"
    return "hosted_tool" if "tools" in values and _any_hosted(values["tools"]) else ""


def _given(values: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in values and bytes(values[name]) != b"null"


def _any_hosted(tools: msgspec.Raw) -> bool:
    """Also of what cannot be read as tools."""
    try:
        _tools_decoder.decode(tools)
    except _UNREADABLE:
        return True
    return False


def _is_deterministic(values: Mapping[str, msgspec.Raw]) -> bool:
    """Temperature 0, or seeded. Embeddings and moderations are not asked: they draw nothing by lot."""
    temperature, seed = values.get("temperature", _ABSENT), values.get("seed", _ABSENT)
    return bool(_ZERO.fullmatch(bytes(temperature)) or _INTEGER.fullmatch(bytes(seed)))


def read_directives(cache_control: bytes, *wishes: bytes | msgspec.Raw) -> Directives | None:
    """Of the Cache-Control header and of `cache` members as JSON, the first with a ttl wins. None: nothing is said."""
    said = {word.strip().lower() for word in cache_control.split(b",")}
    no_cache, no_store = b"no-cache" in said, b"no-store" in said
    ttl_s = None
    for wish in wishes:
        try:
            read = _wishes_decoder.decode(wish)
        except _UNREADABLE:
            continue
        no_cache = no_cache or bytes(read.no_cache) == b"true"
        no_store = no_store or bytes(read.no_store) == b"true"
        ttl_s = ttl_s or _ttl_s(bytes(read.ttl))
    if no_cache or no_store or ttl_s:
        return Directives(no_cache, no_store, ttl_s)
    return None


def _ttl_s(number: bytes) -> int | None:
    """Whole seconds, rounded up; None: not a positive number."""
    seconds = float(number) if len(number) < 32 and _NUMBER.fullmatch(number) else 0.0
    return math.ceil(min(seconds, LONGEST_TTL_S)) if seconds > 0 else None
