"""What was read from YAML, and where it stood: kept apart from the reader, which takes 2 MB."""

from dataclasses import dataclass, field
from typing import Any

from routing.config.wording import Place, Problem


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """As editors count: from 1."""

    line: int
    column: int


class YamlRefused(Exception):
    """The text cannot be read as YAML at all, or only by ways that are refused."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


@dataclass(slots=True)
class Tree:
    """Plain data and where it stood. A place that is missing has the position of what is around it."""

    data: Any = None
    values: dict[Place, Position] = field(default_factory=dict)
    keys: dict[Place, Position] = field(default_factory=dict)
    problems: list[tuple[Position, Problem]] = field(default_factory=list)  # double keys

    def position(self, problem: Problem) -> Position:
        """Where the problem is."""
        if problem.at_key and problem.place in self.keys:
            return self.keys[problem.place]
        place = problem.place
        while place and place not in self.values:
            place = place[:-1]
        # A key that is missing belongs to the mapping, which is found by the key that it stands under.
        if place != problem.place and place in self.keys:
            return self.keys[place]
        return self.values.get(place, Position(1, 1))
