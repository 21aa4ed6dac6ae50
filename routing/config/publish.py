"""Changes of the configuration become revisions: one per transaction that changed something, none otherwise.

What workers could not serve from is refused. Where several steps share an outer `atomic` block, that is found out at
its end: then the tables are put back to the last revision (docs/adr/009-every-change-is-a-revision.md).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from pydantic import ValidationError

from routing.config import open_revision, origins, stored_secrets
from routing.config.authorship import authored_by, authorship
from routing.config.differences import differences
from routing.config.references import Resolution, resolve
from routing.config.schema import Configuration, problems
from routing.config.snapshot import read_configuration, table_data, validated, write_configuration
from routing.config.wording import ConfigurationInvalid, Problem, shown, written
from routing.models import GeneralSettings, Revision

_LOCK = 0x4C4C4D50  # any number that nobody else in this database uses

NOT_STORED = "names a stored key that this database does not have: write the key itself or os.environ/NAME"

log = structlog.get_logger(__name__)


class ChangeRefused(ConfigurationInvalid):
    """A change would leave what cannot be used. Nothing of it was saved."""

    def __init__(self, problems: Iterable[Problem], complaints: Iterable[str]) -> None:
        super().__init__(problems)
        self.complaints = tuple(complaints)

    def __str__(self) -> str:
        return (
            f"Nothing was saved. {'; '.join(self.complaints)}. "
            "Changes that are only good together belong into one `with transaction.atomic():` block."
        )


@dataclass(slots=True)
class Outcome:
    """What came of the changes of one `publishing` block; known when it has ended."""

    revision: Revision | None = None  # None: nothing changed, or it could not be published
    problems: tuple[Problem, ...] = ()  # why not: it was unusable before already
    complaints: tuple[str, ...] = ()  # the same in words
    blanked: tuple[str, ...] = ()  # stored keys that were taken out, because they were for another host


_around: ContextVar[Outcome | None] = ContextVar("publishing", default=None)


@contextmanager
def publishing(*, excuse: bool = True) -> Iterator[Outcome]:
    """What the block changes becomes one revision in the same transaction. Blocks inside it belong to it.

    Raises ChangeRefused. excuse: what was unusable before may stay so, unpublished, because it is mended step by step.
    """
    around = _around.get()
    if around is not None:
        yield around
        return
    outcome = Outcome()
    may_go_on = open_revision.outermost_block() is not None
    with transaction.atomic():
        token = _around.set(outcome)
        try:
            lock_configuration()
            excused = excuse and bool(complaints())
            yield outcome
            _end(outcome, excused=excused, may_go_on=may_go_on)
        finally:
            _around.reset(token)


def publish(*, author: str, source: str, message: str = "") -> Revision | None:
    """Makes what the tables hold now a revision. None if the last one says the same.

    Raises ConfigurationInvalid for what workers could not serve from.
    """
    with authored_by(author, source, message), publishing() as outcome:
        pass
    if outcome.problems:
        raise ConfigurationInvalid(outcome.problems)
    return outcome.revision


def rollback(number: int, author: str, message: str = "") -> Revision | None:
    """Publishes an old snapshot again; None if it is what is in effect.

    Raises Revision.DoesNotExist; and ConfigurationInvalid for a snapshot that this version does not understand.
    """
    with authored_by(author, "rollback", message or f"Back to revision {number}"), publishing() as outcome:
        write_configuration(configuration_of(Revision.objects.get(number=number)))
    return outcome.revision


def configuration_of(revision: Revision) -> Configuration:
    """Raises ConfigurationInvalid for a snapshot that this version does not understand."""
    try:
        return Configuration.model_validate(revision.snapshot)
    except ValidationError:
        raise ConfigurationInvalid([Problem((), f"revision {revision.number} is of another version")]) from None


def current_revision() -> int:
    """The number of the last revision; 0 before the first one."""
    return Revision.objects.aggregate(last=Max("number"))["last"] or 0


def complaints() -> list[str]:
    """What is wrong with what the tables hold, for people who see no YAML."""
    data = table_data()
    try:
        wrong: Iterable[Problem] = _problems(validated(data))
    except ConfigurationInvalid as invalid:
        wrong = invalid.problems
    return [_complaint(data["model_groups"], problem) for problem in wrong]


def _complaint(groups: list[dict[str, Any]], problem: Problem) -> str:
    match problem.place:
        case ("model_groups", int(index), "models", int(inner), *rest):
            endpoint = groups[index]["models"][inner]["name"]
            return f"Endpoint {shown(str(endpoint))}: {written(tuple(rest))} {problem.message}"
        case ("model_groups", int(index), *rest):
            return f"Model group {shown(str(groups[index]['model_group']))}: {written(tuple(rest))} {problem.message}"
    return str(problem)


def resolved(configuration: Configuration) -> Resolution:
    """The configuration with the values that this process has for its references."""
    stored = stored_secrets.reveal_all()
    return resolve(configuration, settings.LLMPROXY_VARIABLES(), settings.LLMPROXY.secrets_dir, stored)


def lock_configuration() -> None:
    """Until the transaction ends, other writers of the configuration wait. SQLite has one writer at a time anyway."""
    if connection.vendor == "postgresql":  # a row could be missing, and made by two at once
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    else:
        list(GeneralSettings.objects.select_for_update().values_list("pk"))


def digest_of(configuration: Configuration) -> str:
    """SHA-256 of the content, whatever order mappings have."""
    text = json.dumps(configuration.plain(without_defaults=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _end(outcome: Outcome, *, excused: bool, may_go_on: bool) -> None:
    """may_go_on: the transaction does not end here, so that what is unusable now may be completed."""
    try:
        configuration = read_configuration()
        wrong = _problems(configuration)
        completable = may_go_on
    except ConfigurationInvalid as invalid:
        wrong, completable = invalid.problems, False
    if not wrong:
        _publish(configuration, outcome)
    elif excused:
        outcome.problems, outcome.complaints = wrong, tuple(complaints())
        if not open_revision.will_run(_settle):
            log.warning("the configuration is not usable and was not published", problems=outcome.complaints)
    elif completable:
        _discard(open_revision.open_revision())
        transaction.on_commit(_settle)
    else:
        raise ChangeRefused(wrong, complaints())


def _settle() -> None:
    """After the commit: what was left unusable is put back, as if the transaction had never been."""
    with publishing() as outcome:
        refused = complaints()
        if refused:
            last = Revision.objects.first()
            write_configuration(configuration_of(last) if last else Configuration())
    if refused:
        raise ChangeRefused(outcome.problems, refused)


def _publish(configuration: Configuration, outcome: Outcome) -> None:
    made = open_revision.open_revision()
    last = Revision.objects.exclude(number=made.number if made else 0).first()
    before = _before(last)
    configuration = _with_guarded_secrets(configuration, before, outcome)
    digest = digest_of(configuration)
    if digest == (last.digest if last else digest_of(Configuration())):
        _discard(made)
    elif made is None or made.digest != digest:
        said = authorship()
        content: dict[str, Any] = {
            "author": said.author,
            "source": said.source,
            "message": said.message,
            "digest": digest,
            "snapshot": configuration.plain(without_defaults=True),
            "changes": [change.as_json() for change in differences(before, configuration)],
        }
        outcome.revision = _keep(made, content)
    else:
        outcome.revision = made


def _keep(made: Revision | None, content: dict[str, Any]) -> Revision:
    if made is None:
        made = Revision.objects.create(number=current_revision() + 1, **content)
        open_revision.mark(made.number)
    else:
        Revision.objects.filter(pk=made.pk).update(**content)
    return Revision.objects.get(pk=made.pk)


def _discard(made: Revision | None) -> None:
    if made is not None:
        made.delete()


def _before(last: Revision | None) -> Configuration:
    """Of another version: then everything counts as new."""
    try:
        return configuration_of(last) if last else Configuration()
    except ConfigurationInvalid:
        return Configuration()


def _with_guarded_secrets(configuration: Configuration, before: Configuration, outcome: Outcome) -> Configuration:
    """No secret in clear, and none on its way to a host that it was not typed in for; the tables follow."""
    hidden = stored_secrets.hide(configuration)
    removed = strays(hidden, before)
    guarded = origins.without(hidden, removed)
    if guarded != configuration:
        write_configuration(guarded)
    if removed:
        outcome.blanked = tuple(origins.told(hidden, use) for use in removed)
        log.warning("stored keys were taken out: they were for another host", keys=outcome.blanked)
    return guarded


def _problems(configuration: Configuration) -> tuple[Problem, ...]:
    """Between its parts, and with the stored secrets of this database."""
    return (*problems(configuration), *_unknown_secrets(configuration))


def _unknown_secrets(configuration: Configuration) -> Iterator[Problem]:
    """A name that nothing is stored under. One that was lost after its publication puts its endpoint out, no more."""
    used = list(origins.uses(configuration))
    unknown = {use.fingerprint for use in used}
    if unknown:
        unknown -= stored_secrets.fingerprints()
    if unknown:
        unknown -= {use.fingerprint for use in origins.uses(_before(Revision.objects.first()))}
    for use in used:
        if use.fingerprint in unknown:
            yield Problem(use.place, NOT_STORED)


def strays(configuration: Configuration, before: Configuration) -> list[origins.Use]:
    """Stored secrets at places that they were neither typed in for nor sent to until now."""
    allowed = stored_secrets.origins()
    for use in origins.uses(before):
        allowed.setdefault(use.fingerprint, set()).add(use.origin)
    return origins.strays(configuration, allowed)
