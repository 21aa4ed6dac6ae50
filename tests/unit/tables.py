"""Routing tables for unit tests, compiled from the same configuration that YAML is."""

from pathlib import Path
from typing import Any

from routing.config.references import resolve
from routing.config.schema import Configuration
from routing.config.table import Endpoint, Group, RoutingTable, compile_table


def model(name: str, weight: int = 1, **fields: Any) -> dict[str, Any]:
    """One endpoint's configuration, at a host of its own."""
    params = {"base_url": f"https://{name}.example/v1", "api_key": f"sk-key-of-{name}"} | fields.pop("params", {})
    return {"name": name, "model": f"{name}-model", "weight": weight, "params": params} | fields


def table_of(*groups: dict[str, Any], **general: Any) -> RoutingTable:
    configuration = Configuration.model_validate({"model_groups": list(groups), "general_settings": general})
    return compile_table(resolve(configuration, {}, Path("nowhere"), {}), revision=7)


def group_of(*models: dict[str, Any], **fields: Any) -> Group:
    return table_of({"model_group": "m", "models": list(models)} | fields).groups["m"]


def endpoints_of(*weights: int) -> tuple[Endpoint, ...]:
    """Endpoints a, b, c … of these weights."""
    return group_of(*(model("abcdefghijklmnop"[i], weight) for i, weight in enumerate(weights))).endpoints
