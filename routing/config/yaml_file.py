"""A YAML file as a Configuration and back. All that is wrong is found at once, with its line and column.

`dump` is the inverse of `parse`: the order is stable, references stay references, defaults are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from routing.config import consistency
from routing.config.schema import Configuration, default_name, key_hint
from routing.config.wording import Problem, problems_of
from routing.config.yaml_places import Position, Tree, YamlRefused
from routing.config.yaml_text import block, in_order


@dataclass(frozen=True, slots=True)
class LocatedProblem:
    """A problem and where it stands in a file."""

    file: str
    position: Position
    problem: Problem

    def __str__(self) -> str:
        return f"{self.file}:{self.position.line}:{self.position.column} {self.problem}"


class FileInvalid(Exception):
    """A file that is not a configuration. Each line of the message is `file:line:column key message`."""

    def __init__(self, problems: Iterable[LocatedProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.position))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A valid file."""

    name: str
    configuration: Configuration
    tree: Tree

    @property
    def names_general_settings(self) -> bool:
        """Whether the file says anything about the general settings."""
        return bool(self.tree.data.get("general_settings"))

    def invalid(self, problems: Iterable[Problem]) -> FileInvalid:
        """The error for problems that were found later."""
        return _located(self.name, self.tree, problems)


def read(path: Path) -> ParsedFile:
    """Raises FileInvalid, also for a file that cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        unreadable = Problem((), f"cannot be read: {error.strerror}")
        raise FileInvalid([LocatedProblem(str(path), Position(1, 1), unreadable)]) from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> ParsedFile:
    """Raises FileInvalid with everything that is wrong; `name` is what messages call the file."""
    from routing.config.yaml_tree import read_tree  # with ruamel.yaml 2 MB, which most workers never need

    try:
        tree = read_tree(content)
    except YamlRefused as refused:
        raise FileInvalid([LocatedProblem(name, refused.position, Problem((), refused.message))]) from None
    if not isinstance(tree.data, dict):
        what = "is empty" if tree.data is None else "is not a mapping"
        raise _located(name, tree, [Problem((), f"{what}: a configuration begins with model_groups:")])
    problems = consistency.cross_check(tree.data)
    configuration = None
    try:
        configuration = Configuration.model_validate(tree.data)
    except ValidationError as error:
        problems += problems_of(error, key_hint)
    if configuration is None or problems or tree.problems:
        raise _located(name, tree, problems)
    return ParsedFile(name, configuration, tree)


def _located(name: str, tree: Tree, problems: Iterable[Problem]) -> FileInvalid:
    found = [*tree.problems, *((tree.position(problem), problem) for problem in problems)]
    return FileInvalid(LocatedProblem(name, position, problem) for position, problem in found)


def dump(configuration: Configuration) -> str:
    """YAML that parses into an equal configuration."""
    data = configuration.plain(without_defaults=True)
    _leave_out_default_names(configuration, data.get("model_groups", []))
    return block(in_order({"model_groups": [], **data}))


def _leave_out_default_names(configuration: Configuration, groups: list[dict[str, Any]]) -> None:
    """Where only one endpoint would get a name by default, and has it, the name goes without saying."""
    pairs = [
        (endpoint, plain)
        for group, plain_group in zip(configuration.model_groups, groups, strict=True)
        for endpoint, plain in zip(group.models, plain_group.get("models", []), strict=True)
    ]
    defaults = [default_name(endpoint) for endpoint, _ in pairs]
    for (endpoint, plain), default in zip(pairs, defaults, strict=True):
        if endpoint.name == default and defaults.count(default) == 1:
            del plain["name"]
