"""One section of the schema as one table's columns, and back. Knows the names of columns, writes nothing."""

from collections.abc import Mapping
from typing import Any

from django.db.models import CharField, Field, Model

from routing.config import schema
from routing.config.references import is_reference
from routing.models import Endpoint, GeneralSettings, ModelGroup

Place = tuple[str, ...]


def _places(section: type[schema.Section], before: Place = (), prefix: str = "") -> dict[str, Place]:
    skipped = ("models", "params", "price", "cache_params")
    return {prefix + name: (*before, name) for name in section.model_fields if name not in skipped}


# Column -> where its value stands in the section.
PLACES: dict[type[Model], dict[str, Place]] = {
    ModelGroup: {
        ("name" if column == "model_group" else column): place for column, place in _places(schema.GroupConfig).items()
    },
    Endpoint: _places(schema.EndpointConfig)
    | _places(schema.PriceConfig, ("price",), "price_")
    | _places(schema.Params, ("params",)),
    GeneralSettings: _places(schema.GeneralSettings) | _places(schema.CacheParams, ("cache_params",), "cache_"),
}


def from_row(row: Model) -> dict[str, Any]:
    """The columns of a row with references put in: what `section_data` takes."""
    references: dict[str, str] = getattr(row, "references", {})
    return {column: references.get(column, getattr(row, column)) for column in PLACES[type(row)]}


def section_data(table: type[Model], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as plain data that the section's schema validates. An empty text is no value."""
    data: dict[str, Any] = {}
    for column, place in PLACES[table].items():
        if column not in columns:
            continue
        target = data
        for part in place[:-1]:
            target = target.setdefault(part, {})
        target[place[-1]] = columns[column]
    return data


def column_at(table: type[Model], place: tuple[str | int, ...]) -> str | None:
    """The column that holds a place of the section, or the one around it."""
    found = (column for column, known in PLACES[table].items() if place[: len(known)] == known)
    return next(found, None)


def holds_text(table: type[Model], column: str) -> bool:
    """Whether a reference can stand in the column itself."""
    field = _field(table, column)
    return isinstance(field, CharField) and not field.choices


def _field(table: type[Model], column: str) -> "Field[Any, Any]":
    field: Field[Any, Any] = table._meta.get_field(column)  # type: ignore[assignment]
    return field


def row_values(table: type[Model], section: schema.Section) -> dict[str, Any]:
    """A section as values for the columns, `references` among them."""
    values: dict[str, Any] = {}
    references: dict[str, str] = {}
    for column, place in PLACES[table].items():
        value: Any = section
        for part in place:
            value = getattr(value, part)
        free_text = holds_text(table, column)
        if is_reference(value) and not free_text:
            references[column] = value
            value = _field(table, column).get_default()
        values[column] = "" if value is None and free_text else value
    return values | {"references": references}
