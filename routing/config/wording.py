"""What is wrong with a configuration, in words for people: pydantic's errors become `Problem`s.

A message says what is wanted, never what was given: the value may be a secret.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]
_LONGEST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `at_key`: it is the key that is wrong, not its value."""

    place: Place
    message: str
    at_key: bool = False

    @property
    def key(self) -> str:
        """The place as people write it: `model_groups[0].models[1].weight`."""
        return written(self.place)

    def __str__(self) -> str:
        return f"{self.key} {self.message}" if self.place else self.message


class ConfigurationInvalid(Exception):
    """A configuration that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def written(place: Place) -> str:
    """A place as one word."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in place)
    return "".join(parts).removeprefix(".")


def shown(text: str) -> str:
    """Text from outside, safe for a terminal: no control characters, no end without sight."""
    short = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in short)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean "weight"?` or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f', did you mean "{near[0]}"?' if near else ""


def problems_of(error: ValidationError, hint: Callable[[Place], str] = lambda place: "") -> list[Problem]:
    """One problem per error. `hint` says more about an unknown key."""
    return [_problem(detail, hint) for detail in error.errors(include_url=False, include_input=True)]


def _problem(detail: ErrorDetails, hint: Callable[[Place], str]) -> Problem:
    place: Place = detail["loc"]
    at_key = bool(place) and place[-1] == "[key]"
    if at_key:
        place = place[:-1]
    if detail["type"] == "extra_forbidden":
        return Problem(place, "unknown key" + hint(place), at_key=True)
    return Problem(place, _message(detail), at_key)


def _message(detail: ErrorDetails) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if detail["input"] is None and kind.endswith("_type"):
        return f"has no value; it {_WANTED.get(kind, 'needs one')}"
    if kind == "literal_error":
        options = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"must be one of {options}" if "," in options else f"must be {options}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {next(iter(context.values()))}"
    return _WANTED.get(kind, detail["msg"])


_WHOLE, _NUMBER, _SWITCH = "must be a whole number", "must be a number", "must be true or false"
_TEXT, _LIST, _MAPPING = "must be text: put it in quotes", "must be a list", "must be a mapping (key: value)"
_WANTED: dict[str, str] = {
    "missing": "is missing",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": _TEXT,
    "list_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
_BOUNDS = {
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
