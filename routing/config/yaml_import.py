"""Imports of YAML files: three-way against what was imported last, all or nothing. `merge` has the rules."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from django.db import transaction
from pydantic import ValidationError

from routing.config import origins, parts, stored_secrets, yaml_file
from routing.config.authorship import authored_by
from routing.config.differences import Change, differences
from routing.config.merge import Conflict, Merged, Winner, Winners, merge
from routing.config.parts import Parts
from routing.config.publish import NOT_STORED, configuration_of, current_revision, publishing, resolved, strays
from routing.config.references import STORED, Resolution, stored_places
from routing.config.schema import Configuration, problems
from routing.config.snapshot import read_configuration, write_configuration
from routing.config.wording import ConfigurationInvalid, Place, Problem, problems_of
from routing.config.yaml_file import FileInvalid, ParsedFile
from routing.models import ImportedFile, Revision


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did, or would do."""

    revision: int  # the current one afterwards
    after: Configuration
    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    undecided: tuple[Conflict, ...]  # those that nobody has won: nothing may be written
    kept: tuple[str, ...]  # not named by the file; `prune` would remove them
    blanked: tuple[str, ...]  # stored keys that do not go to the host that the file gives their endpoint
    resolution: Resolution  # tells which references are missing

    @property
    def missing(self) -> tuple[str, ...]:
        """References without a value in this process, sorted."""
        return self.resolution.all_missing


class Conflicted(Exception):
    """The file and the database were both changed since the last import. Nothing was written."""

    def __init__(self, plan: ImportResult) -> None:
        super().__init__(f"Conflicts: {len(plan.undecided)}")
        self.plan = plan


class CannotMerge(FileInvalid):
    """The file is good, but not together with what the database holds."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How what is configured now differs from what the file said at its last import."""

    file: str
    imported_at: datetime
    author: str
    changes: tuple[Change, ...]


def plan_import(parsed: ParsedFile, *, prune: bool = False, winner: Winners = None) -> ImportResult:
    """What `import_parsed` would do. Writes nothing. Raises as it does, but for conflicts."""
    with transaction.atomic():
        plan, _ = _planned(parsed, prune=prune, winner=winner)
        transaction.set_rollback(True)  # new secrets were stored, to know their fingerprints
    return plan


def import_parsed(
    parsed: ParsedFile,
    *,
    author: str,
    source: str,
    message: str = "",
    prune: bool = False,
    winner: Winners = None,
) -> ImportResult:
    """The file into the database as one revision. winner: who gets what was changed on both sides.

    Raises Conflicted; FileInvalid; CannotMerge; and ConfigurationInvalid where the tables hold what cannot be kept.
    """
    with authored_by(author, source, message), publishing():
        plan, leftovers = _planned(parsed, prune=prune, winner=winner)
        if plan.undecided:
            raise Conflicted(plan)
        write_configuration(plan.after)
        ImportedFile.objects.update_or_create(
            pk=ImportedFile.ONLY_ROW,
            defaults={
                "name": parsed.name,
                "author": author,
                "content": parts.as_json(_said(parsed)),
                "leftovers": parts.as_json(leftovers),
            },
        )
    return replace(plan, revision=current_revision())


def import_file(
    path: Path, *, author: str, source: str, prune: bool = False, winner: Winner | None = None
) -> ImportResult:
    """`import_parsed` of a file on disk."""
    return import_parsed(yaml_file.read(path), author=author, source=source, prune=prune, winner=winner)


def drift() -> Drift | None:
    """None: nothing was imported yet. Raises ConfigurationInvalid."""
    file = ImportedFile.objects.filter(pk=ImportedFile.ONLY_ROW).first()
    if file is None:
        return None
    try:
        imported = Configuration.model_validate(parts.whole(parts.from_json(file.content)))
    except ValidationError as error:
        raise ConfigurationInvalid(problems_of(error)) from None
    changes = differences(imported, read_configuration())
    return Drift(file.name, file.imported_at, file.author, tuple(changes))


def _planned(parsed: ParsedFile, *, prune: bool, winner: Winners) -> tuple[ImportResult, Parts]:
    """And the leftovers, for the next import's base."""
    _refuse_unknown_secrets(parsed)
    before = _tables(prune=prune)
    last = ImportedFile.objects.filter(pk=ImportedFile.ONLY_ROW).first()
    base = None if last is None else {**parts.from_json(last.leftovers), **parts.from_json(last.content)}
    said = _said(parsed)
    merged = merge(base, parts.parts_of(before.plain()), said, prune=prune, winner=winner)
    after = _valid(parsed, merged)
    stray = strays(after, before)
    _refuse_named(parsed, after, stray)
    blanked = tuple(origins.told(after, use) for use in stray)
    after = origins.without(after, stray)
    changes = tuple(differences(before, after))
    kept = tuple(map(parts.told, merged.kept))
    left = {*merged.kept, *([] if prune else [(parts.SETTINGS, "")])}
    leftovers = {part: values for part, values in (base or {}).items() if part in left and part not in said}
    plan = ImportResult(
        revision=current_revision(),
        after=after,
        changes=changes,
        conflicts=merged.conflicts,
        undecided=merged.undecided,
        kept=kept,
        blanked=blanked,
        resolution=resolved(after),
    )
    return plan, leftovers


def _said(parsed: ParsedFile) -> Parts:
    return parts.named_in(parsed.configuration, stored_secrets.hide(parsed.configuration))


def _valid(parsed: ParsedFile, merged: Merged) -> Configuration:
    """While conflicts are undecided, groups may not fit together yet."""
    try:
        configuration = Configuration.model_validate(parts.whole(merged.parts))
    except ValidationError as error:
        raise _clash(parsed, problems_of(error)) from None
    if not merged.undecided and (clashes := problems(configuration)):
        raise _clash(parsed, clashes)
    return configuration


def _clash(parsed: ParsedFile, clashes: Iterable[Problem]) -> CannotMerge:
    located = parsed.invalid(Problem((), f"together with what the database holds: {clash}") for clash in clashes)
    return CannotMerge(located.problems)


def _tables(*, prune: bool) -> Configuration:
    try:
        return read_configuration()
    except ConfigurationInvalid:
        if not prune:
            raise
    last = Revision.objects.first()
    try:
        return configuration_of(last) if last else Configuration()
    except ConfigurationInvalid:
        return Configuration()


def _refuse_unknown_secrets(parsed: ParsedFile) -> None:
    known = stored_secrets.fingerprints()
    unknown = [
        Problem(place, NOT_STORED)
        for place, reference in stored_places(parsed.tree.data)
        if reference.removeprefix(STORED) not in known
    ]
    if unknown:
        raise parsed.invalid(unknown)


def _refuse_named(parsed: ParsedFile, after: Configuration, stray: list[origins.Use]) -> None:
    """A stored key that the file itself names for another host is an error of the file."""
    wanted = {(*_part(after, use.place), STORED + use.fingerprint) for use in stray}
    named = [
        Problem(place, "names a key that was stored for another host: write the key itself or os.environ/NAME")
        for place, reference in stored_places(parsed.tree.data)
        if (*_part(parsed.configuration, place), reference) in wanted
    ]
    if named:
        raise parsed.invalid(named)


def _part(configuration: Configuration, place: Place) -> tuple[str, Place]:
    """A place by the endpoint's name instead of its index."""
    if place[0] != "model_groups":
        return "", place
    return configuration.model_groups[int(place[1])].models[int(place[3])].name, place[4:]
