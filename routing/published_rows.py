"""Rows whose every change is published: whatever way the ORM writes them, one revision or a refusal comes of it.

Typed-in secrets are encrypted before they are written, so that the database file never holds one.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from django.db import models

Row = TypeVar("Row", bound=models.Model, covariant=True)


class PublishedQuerySet(models.QuerySet[Row]):
    """The ways of writing that go past `Model.save` and `Model.delete`."""

    def bulk_create(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> list[Row]:
        rows = list(objs)
        with _publishing():
            _prepare(rows)
            return super().bulk_create(rows, *args, **kwargs)

    def bulk_update(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> int:
        rows = list(objs)
        with _publishing():
            _prepare(rows)
            return super().bulk_update(rows, *args, **kwargs)

    def update(self, **kwargs: Any) -> int:
        with _publishing():
            return super().update(**kwargs | self._hidden(kwargs))

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        with _publishing():
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _raw_delete(self, using: str | None) -> int:
        with _publishing():
            deleted: int = super()._raw_delete(using)
            return deleted

    def _hidden(self, columns: dict[str, Any]) -> dict[str, Any]:
        if "base_url" not in {field.name for field in self.model._meta.get_fields()}:
            return _hidden_columns(columns)
        if "base_url" in columns:
            return _hidden_columns(columns, [columns["base_url"]])
        if not {"api_key", "default_headers", "default_query"} & columns.keys():
            return {}
        return _hidden_columns(columns, self.values_list("base_url", flat=True))


class PublishedRow(models.Model):
    """A row of the configuration."""

    objects = models.Manager.from_queryset(PublishedQuerySet)()

    class Meta:
        abstract = True
        base_manager_name = "objects"  # related managers write through the base manager

    def save_base(self, *args: Any, **kwargs: Any) -> None:
        with _publishing():
            _prepare([self])
            super().save_base(*args, **kwargs)

    def complete(self, beside: Sequence[models.Model]) -> None:
        """Fills in what the row has by default. beside: rows that are written with it, itself among them."""

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with _publishing():
            return super().delete(*args, **kwargs)

    delete.alters_data = True  # type: ignore[attr-defined]


def when_loaded(sender: type[models.Model], raw: bool = False, **_: Any) -> None:
    """A receiver of post_save: `loaddata` goes past `save_base`."""
    if raw and issubclass(sender, PublishedRow):
        with _publishing(excuse=False):
            pass


def _publishing(**how: bool) -> AbstractContextManager[Any]:
    """Imported late: publishing needs the tables, and they are made of this."""
    from routing.config.publish import publishing

    return publishing(**how)


def _prepare(rows: Sequence[models.Model]) -> None:
    for row in rows:
        if isinstance(row, PublishedRow):
            row.complete(rows)
        _hide_secrets(row)


def _hide_secrets(row: models.Model) -> None:
    columns = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    where = [columns["base_url"]] if "base_url" in columns else None
    for column, reference in _hidden_columns(columns, where).items():
        setattr(row, column, reference)


def _hidden_columns(columns: dict[str, Any], base_urls: Collection[Any] | None = None) -> dict[str, Any]:
    """base_urls: of the endpoints that the columns are for; None: they are no endpoint's."""
    from routing.config.origins import SETTINGS, origin_of
    from routing.config.stored_secrets import hidden_columns

    where = {SETTINGS} if base_urls is None else {origin_of(url) for url in base_urls if isinstance(url, str)}
    return hidden_columns(columns, where)
