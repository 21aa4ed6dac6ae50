"""The conflicts of an import as questions on a page, and the answers that come back. What an answer does: `merge`."""

from collections.abc import Mapping
from dataclasses import dataclass

from routing.config.change_text import value_of
from routing.config.merge import Conflict, Winner
from routing.config.yaml_import import ImportResult

_FIELD = "choice-"
_WINNERS: Mapping[str, Winner] = {"database": "database", "file": "file"}


@dataclass(frozen=True, slots=True)
class Sides:
    """What the last import, the database and the file say, as text."""

    base: str
    database: str
    file: str


@dataclass(frozen=True, slots=True)
class Question:
    """Who wins one value, or one group or endpoint as a whole; that may be several conflicts, with one answer."""

    field: str
    what: str
    key: str
    sides: tuple[Sides, ...]
    chosen: str  # "": not yet


def questions(plan: ImportResult, choices: Mapping[str, Winner]) -> list[Question]:
    """In the order of the conflicts. A field's name holds the ids: who saw other values has not answered this."""
    together: dict[tuple[str, str], list[Conflict]] = {}
    for conflict in plan.conflicts:
        together.setdefault((conflict.what, conflict.key), []).append(conflict)
    return [_question(conflicts, choices) for conflicts in together.values()]


def choices_in(posted: Mapping[str, object]) -> dict[str, Winner]:
    """Winners by the id of their conflict. Anything else that came with the form is none of these."""
    return {
        one: _WINNERS[answer]
        for field, answer in posted.items()
        if field.startswith(_FIELD) and isinstance(answer, str) and answer in _WINNERS
        for one in field.removeprefix(_FIELD).split("-")
    }


def open_questions(asked: list[Question]) -> list[str]:
    """Those without an answer, as `endpoint east weight`."""
    return [f"{question.what} {question.key}" for question in asked if not question.chosen]


def _question(conflicts: list[Conflict], choices: Mapping[str, Winner]) -> Question:
    answers = {choices.get(conflict.id, "") for conflict in conflicts}
    return Question(
        field=_FIELD + "-".join(conflict.id for conflict in conflicts),
        what=conflicts[0].what,
        key=conflicts[0].key or "as a whole",
        sides=tuple(Sides(*map(value_of, (one.base, one.database, one.file))) for one in conflicts),
        chosen=answers.pop() if len(answers) == 1 else "",
    )
