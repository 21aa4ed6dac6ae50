"""A file, the database, and what the file said at its last import (the base): the three-way merge. Pure.

The rule, value by value. A value that the file leaves out is its default.
- The file says what it said last time: the database's value stays.
- The file says something else, and the database has what the file said last time: the file's value is taken.
- Both changed, differently: a conflict. `winner` settles it: one side for all of them, or a choice for each. Where
  nobody has chosen, the database's value stands in the result, which must then not be written.
- A line taken out of the file that had the default's value anyway changed nothing.
Whole groups and endpoints likewise. One that the file dropped is kept, unless `prune`; one that the admin removed stays
removed; one that only the admin made is never touched. A file without general settings says nothing about them.
Without a base nobody knows who changed what: the file wins for every value that it names, the database keeps the
others; with `prune` the result is what the file says and nothing else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from routing.config.parts import (
    ABSENT,
    ENDPOINT,
    GROUP,
    IN_GROUP,
    SETTINGS,
    Part,
    Parts,
    Path,
    Values,
    defaults,
    endpoints_in,
    groups_in,
    told,
)

Winner = Literal["database", "file"]
Winners = Winner | Mapping[str, Winner] | None  # of all conflicts; by the conflict's `id`; nobody has chosen


@dataclass(frozen=True, slots=True)
class Conflict:
    """Changed on both sides. `key` is empty where a whole group or endpoint is meant; the values then are words."""

    what: str  # "endpoint east", as in `Change`
    key: str
    base: Any  # None: the file did not say it
    database: Any
    file: Any

    @property
    def id(self) -> str:
        """Of this conflict with these values: a choice that was made for others does not fit any more."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Merged:
    """parts: the result, in order. kept: what the file does not name and `prune` would remove."""

    parts: Parts
    conflicts: tuple[Conflict, ...]
    undecided: tuple[Conflict, ...]  # those without a winner
    kept: tuple[Part, ...]


def merge(base: Parts | None, database: Parts, file: Parts, *, prune: bool, winner: Winners) -> Merged:
    """database: with all values. base and file: only what is said."""
    return _Merge(base, database, file, prune=prune, winner=winner).merged()


class _Merge:
    def __init__(self, base: Parts | None, database: Parts, file: Parts, *, prune: bool, winner: Winners) -> None:
        self._first = base is None
        self._base = base or {}
        self._database = database
        self._file = file
        self._prune = prune
        self._winner = winner
        self._conflicts: list[Conflict] = []
        self._undecided: list[Conflict] = []
        self._kept: list[Part] = []

    def merged(self) -> Merged:
        parts: Parts = {}
        for part in dict.fromkeys([*self._database, *self._file]):
            values = self._part(part)
            if values is not None:
                parts[part] = values
        self._bring_back_groups(parts)
        ordered = self._ordered(parts)
        return Merged(ordered, tuple(self._conflicts), tuple(self._undecided), tuple(self._kept))

    def _part(self, part: Part) -> Values | None:
        """The part's values in the result; None: it is not in there."""
        database, file = self._database.get(part), self._file.get(part)
        if part[0] == SETTINGS and file is None and self._prune and (self._first or part in self._base):
            file = {}
        if database is not None and file is not None:
            return self._values(part, database, file)
        if database is not None:
            return database if self._stays(part, database) else None
        assert file is not None  # noqa: S101 - the part is on one of the sides
        return _with_defaults(part, file) if self._comes(part, file) else None

    def _stays(self, part: Part, database: Values) -> bool:
        """Whether what only the database has is kept."""
        base = self._base.get(part)
        if part[0] == SETTINGS or (base is None and not self._first):
            return True
        if not self._prune:
            self._kept.append(part)
            return True
        if base is None or _same(part, base, database):
            return False
        return not self._settle(Conflict(told(part), "", "there", "changed", "removed"))

    def _comes(self, part: Part, file: Values) -> bool:
        """Whether what only the file has is added."""
        base = self._base.get(part)
        if base is None:
            return True
        if _same(part, base, file):
            return False
        return self._settle(Conflict(told(part), "", "there", "removed", "changed"))

    def _values(self, part: Part, database: Values, file: Values) -> Values:
        base = self._base.get(part, {})
        merged = {path: self._value(part, path, base, file) for path in dict.fromkeys([*database, *base, *file])}
        return {path: value for path, value in merged.items() if value is not ABSENT}

    def _value(self, part: Part, path: Path, base: Values, file: Values) -> Any:
        default = defaults(part[0]).get(path, ABSENT)
        mine = self._database[part].get(path, default)
        said, said_before = file.get(path, ABSENT), base.get(path, ABSENT)
        theirs = default if said is ABSENT else said
        before = default if said_before is ABSENT else said_before
        if self._first:
            return mine if said is ABSENT and not self._prune else theirs
        unchanged = said == said_before or (said is ABSENT and theirs == before)
        if unchanged or mine == theirs:
            return mine
        if mine == before:
            return theirs
        key = ".".join(path)
        return theirs if self._settle(Conflict(told(part), key, _shown(before), _shown(mine), _shown(theirs))) else mine

    def _bring_back_groups(self, parts: Parts) -> None:
        """An endpoint stays or comes, but its group was removed on the other side: both are kept, or both go."""
        for part, values in list(parts.items()):
            group = (GROUP, values[IN_GROUP]) if part[0] == ENDPOINT else part
            if group in parts:
                continue
            here = group in self._database
            holds = f"holds {told(part)}"
            conflict = Conflict(told(group), "", "there", *((holds, "removed") if here else ("removed", holds)))
            file_wins = self._settle(conflict)
            if file_wins != here:  # the side that has the group
                side = self._database if here else self._file
                parts[group] = _with_defaults(group, side[group])
                continue
            del parts[part]
            there = (self._file if file_wins else self._database).get(part, {}).get(IN_GROUP, "")
            if (GROUP, there) in parts:
                parts[part] = {**values, IN_GROUP: there}

    def _settle(self, conflict: Conflict) -> bool:
        """Whether the file wins it."""
        self._conflicts.append(conflict)
        winner = self._winner.get(conflict.id) if isinstance(self._winner, Mapping) else self._winner
        if winner is None:
            self._undecided.append(conflict)
        return winner == "file"

    # -- order

    def _ordered(self, parts: Parts) -> Parts:
        ordered: Parts = {}
        groups = self._order(
            "model groups", groups_in(parts), groups_in(self._base), groups_in(self._database), groups_in(self._file)
        )
        for group in groups:
            ordered[GROUP, group] = parts[GROUP, group]
            sides = (endpoints_in(side, group) for side in (parts, self._base, self._database, self._file))
            for name in self._order(f"endpoints of {group}", *sides):
                ordered[ENDPOINT, name] = parts[ENDPOINT, name]
        if (SETTINGS, "") in parts:
            ordered[SETTINGS, ""] = parts[SETTINGS, ""]
        return ordered

    def _order(self, what: str, names: list[str], base: list[str], database: list[str], file: list[str]) -> list[str]:
        """These names in the order of the side that changed it; newcomers follow whom they follow on their side."""
        shared = [name for name in database if name in file and name in names]
        mine, theirs = shared, [name for name in file if name in shared]
        before = [name for name in base if name in shared]
        file_first = False
        if mine != theirs:
            if self._first or mine == [*before, *(name for name in mine if name not in before)]:
                file_first = True
            elif theirs != [*before, *(name for name in theirs if name not in before)]:
                file_first = self._settle(Conflict(what, "order", before, mine, theirs))
        first, second = (file, database) if file_first else (database, file)
        return _woven([name for name in first if name in names], [name for name in second if name in names], names)


def _woven(first: list[str], second: list[str], names: list[str]) -> list[str]:
    """first, and each further name behind the one that it follows in second; none: in front."""
    woven = list(first)
    for index, name in enumerate(second):
        if name not in woven:
            place = woven.index(second[index - 1]) + 1 if index else 0
            woven.insert(place, name)
    return woven + [name for name in names if name not in woven]


def _same(part: Part, said: Values, values: Values) -> bool:
    """Whether two sides mean the same part."""
    return _with_defaults(part, said) == _with_defaults(part, values)


def _with_defaults(part: Part, said: Values) -> Values:
    return {**defaults(part[0]), **said}


def _shown(value: Any) -> Any:
    return None if value is ABSENT else value
