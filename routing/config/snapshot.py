"""The tables as one Configuration and back, and what a worker loads at its start. Decides nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model
from pydantic import ValidationError

from routing.config import schema, stored_secrets
from routing.config.columns import from_row, row_values, section_data
from routing.config.references import Resolution, resolve
from routing.config.wording import ConfigurationInvalid, Problem, problems_of
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision

_MOST_TRIED = 20

Row = TypeVar("Row", ModelGroup, Endpoint)


@dataclass(frozen=True, slots=True)
class Published:
    """Which revision it is. A restored database may give a number to another content."""

    number: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class LoadedConfiguration:
    """A published configuration, with the stored secrets that its references name."""

    revision: int  # 0: nothing was published yet
    configuration: schema.Configuration
    stored: dict[str, str] = field(repr=False)  # fingerprint -> secret
    digest: str = ""  # as of the revision

    def resolved(self, variables: Mapping[str, str], secrets_dir: Path) -> Resolution:
        """With real values for its references, as far as there are any."""
        return resolve(self.configuration, variables, secrets_dir, self.stored)


class RevisionUnusable(ConfigurationInvalid):
    """A revision that no worker can serve: of another version, or written past all checks."""

    def __init__(self, number: int, problems: Iterable[Problem]) -> None:
        super().__init__(problems)
        self.number = number


def published() -> Published:
    """What is published last."""
    last = Revision.objects.values_list("number", "digest").first()
    return Published(*last) if last else Published()


def load(number: int | None = None) -> LoadedConfiguration:
    """What is published last, or that revision; before the first one, what the tables hold.

    Raises Revision.DoesNotExist; RevisionUnusable; and ConfigurationInvalid for tables that hold no configuration.
    """
    revision = Revision.objects.first() if number is None else Revision.objects.get(number=number)
    stored = stored_secrets.reveal_all()
    if revision is None:
        return LoadedConfiguration(0, read_configuration(), stored)
    return LoadedConfiguration(revision.number, _servable(revision), stored, revision.digest)


def load_last_good() -> LoadedConfiguration:
    """What a start serves: the last revision that can be. Whoever watches is told of those after it.

    Raises as `load` does, where there is none.
    """
    try:
        return load()
    except RevisionUnusable as unusable:
        for number in Revision.objects.values_list("number", flat=True)[1:_MOST_TRIED]:
            try:
                return load(number)
            except RevisionUnusable:
                continue
        raise unusable


def _servable(revision: Revision) -> schema.Configuration:
    try:
        configuration = validated(revision.snapshot)
    except ConfigurationInvalid as invalid:
        raise RevisionUnusable(revision.number, invalid.problems) from None
    if wrong := schema.problems(configuration):
        raise RevisionUnusable(revision.number, wrong)
    return configuration


def read_configuration() -> schema.Configuration:
    """The tables as a configuration. Keys are references or `stored:`, as in the tables.

    Raises ConfigurationInvalid if something was written past the schema.
    """
    return validated(table_data())


def table_data() -> dict[str, Any]:
    """The tables as plain data, valid or not."""
    endpoints: dict[int, list[dict[str, Any]]] = {}
    for endpoint in Endpoint.objects.order_by("position", "pk"):
        endpoints.setdefault(endpoint.group_id, []).append(section_data(Endpoint, from_row(endpoint)))
    groups = [
        section_data(ModelGroup, from_row(group)) | {"models": endpoints.get(group.pk, [])}
        for group in ModelGroup.objects.order_by("position", "pk")
    ]
    settings = GeneralSettings.objects.filter(pk=GeneralSettings.ONLY_ROW).first() or GeneralSettings()
    return {"model_groups": groups, "general_settings": section_data(GeneralSettings, from_row(settings))}


def validated(data: Any) -> schema.Configuration:
    """Plain data as a configuration. Raises ConfigurationInvalid."""
    try:
        return schema.Configuration.model_validate(data)
    except ValidationError as error:
        raise ConfigurationInvalid(problems_of(error, schema.key_hint)) from None


def write_configuration(configuration: schema.Configuration) -> None:
    """Makes the tables hold exactly this. Rows keep their identity by name; what is not named is deleted."""
    with transaction.atomic():
        _write_all(configuration)


def _write_all(configuration: schema.Configuration) -> None:
    settings = row_values(GeneralSettings, configuration.general_settings)
    GeneralSettings.objects.update_or_create(pk=GeneralSettings.ONLY_ROW, defaults=settings)
    groups = {
        group.model_group: row_values(ModelGroup, group) | {"position": position}
        for position, group in enumerate(configuration.model_groups)
    }
    stale = ModelGroup.objects.exclude(name__in=groups)
    rows = _write(ModelGroup, groups)
    endpoints = {
        endpoint.name: row_values(Endpoint, endpoint) | {"position": position, "group_id": rows[group.model_group].pk}
        for group in configuration.model_groups
        for position, endpoint in enumerate(group.models)
    }
    Endpoint.objects.exclude(name__in=endpoints).delete()
    _write(Endpoint, endpoints)
    stale.delete()  # last: an endpoint that moved away from such a group must not go with it


def _write(table: type[Row], wanted: dict[str, dict[str, Any]]) -> dict[str, Row]:
    """Creates and updates rows by name; only those that differ are written."""
    rows: dict[str, Row] = {row.name: row for row in table._default_manager.all()}
    created = [table(**values) for name, values in wanted.items() if name not in rows]
    changed = [rows[name] for name, values in wanted.items() if name in rows and _assign(rows[name], values)]
    columns = {column for values in wanted.values() for column in values}
    table._default_manager.bulk_create(created, batch_size=200)
    if changed:
        table._default_manager.bulk_update(changed, sorted(columns), batch_size=100)
    return rows | {row.name: row for row in created}


def _assign(row: Model, values: dict[str, Any]) -> bool:
    different = {column: value for column, value in values.items() if getattr(row, column) != value}
    for column, value in different.items():
        setattr(row, column, value)
    return bool(different)
