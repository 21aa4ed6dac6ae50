"""The documentation names everything that users can set, call or get, and nothing that is not there."""

import ast
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.urls import resolve

from llmproxy_site.api import api
from llmproxy_site.environment import PROJECT, Environment
from llmproxy_site.gateway_parts import GatewayParts, compile_loaded
from llmproxy_site.operators_view import health_view, stats_view
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from routing import errors
from routing.config import schema
from routing.config.snapshot import LoadedConfiguration
from routing.config.yaml_file import parse
from routing.openai import routes
from tests.docs_pages import DOCS, PAGES, code, leads_somewhere, links, named, table, without_blocks, yaml_blocks
from tests.told_metrics import by_metric

PACKAGES = ("llmproxy_site", "routing", "cache_app", "stats")
YAML_BLOCKS = [pytest.param(block, id=name) for name, block in yaml_blocks()]
BY_PAGE = {"argvalues": PAGES, "ids": [str(page.relative_to(PROJECT)) for page in PAGES]}
_HEADER = re.compile(r"x-llmproxy-[a-z-]+[a-z]")


# -- configuration


SECTIONS = {
    "Keys of a group": schema.GroupConfig,
    "Keys of an endpoint": schema.EndpointConfig,
    "Keys of `params`": schema.Params,
    "Keys of `price`": schema.PriceConfig,
    "Keys of `general_settings`": schema.GeneralSettings,
    "Keys of `cache_params`": schema.CacheParams,
}


def test_every_section_of_the_schema_has_a_table() -> None:
    # Timeouts is no section of its own: groups and endpoints inherit its keys.
    assert {*schema.Section.__subclasses__(), *schema.Timeouts.__subclasses__()} == {
        *SECTIONS.values(),
        schema.Timeouts,
        schema.Configuration,
    }


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_keys_of_a_section_are_documented(heading: str) -> None:
    assert sorted(named("configuration.md", heading)) == sorted(SECTIONS[heading].model_fields)


@pytest.mark.parametrize("heading", SECTIONS)
def test_documented_defaults_are_the_defaults(heading: str) -> None:
    fields = SECTIONS[heading].model_fields
    documented = {code(row[0]): row[2] for row in table("configuration.md", heading)}
    assert documented == {key: _default_as_written(documented[key], field) for key, field in fields.items()}


def _default_as_written(cell: str, field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, ""):  # said in words
        return cell if cell and not cell.startswith("`") else "words"
    if isinstance(field.default, schema.Section):
        return "`{}`"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def test_the_places_of_all_sections_are_documented() -> None:
    places = {"model_groups", "models", "params", "price", "general_settings", "cache_params"}
    assert set(named("configuration.md", "The sections")) == places


def test_environment_variables_are_documented() -> None:
    assert sorted(named("configuration.md", "Environment variables")) == sorted(Environment.variable_names())


# -- commands


def own_commands() -> dict[str, str]:
    """Command -> its package."""
    return {
        file.stem: package
        for package in PACKAGES
        for file in (PROJECT / package / "management" / "commands").glob("*.py")
        if file.stem != "__init__"
    }


def documented_commands() -> list[str]:
    return re.findall(r"^### `manage\.py (\w+)`$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_commands_are_documented() -> None:
    assert sorted(documented_commands()) == sorted(own_commands())


@pytest.mark.parametrize("name", sorted(own_commands()))
def test_options_of_a_command_are_documented(name: str) -> None:
    command = load_command_class(own_commands()[name], name)
    everything = options_of(command.create_parser("manage.py", name))
    own = everything - inherited_options(command)
    documented = set(named("commands.md", f"`manage.py {name}`"))
    assert own <= documented <= everything


def inherited_options(command: BaseCommand) -> set[str]:
    """Options that come from Django or a library."""
    foreign = next(kind for kind in type(command).__mro__ if kind.__module__.partition(".")[0] not in PACKAGES)
    return options_of(foreign().create_parser("manage.py", "foreign"))


def options_of(parser: ArgumentParser) -> set[str]:
    """Long options, and positional arguments in upper case."""
    return {
        next((option for option in action.option_strings if option.startswith("--")), action.dest.upper())
        for action in parser._actions
    }


def test_make_targets_are_documented() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert sorted(named("commands.md", "make")) == sorted(f"make {target}" for target in phony[1].split())


# -- HTTP


def documented_routes(heading: str) -> dict[str, set[str]]:
    """Path -> its methods."""
    methods: dict[str, set[str]] = {}
    for row in table("http.md", heading):
        methods.setdefault(code(row[1]), set()).add(code(row[0]))
    return methods


def test_openai_routes_are_documented() -> None:
    served = {value.operation for value in vars(routes).values() if isinstance(value, routes.Route)}
    assert set(documented_routes("Routes")) == served


@pytest.mark.parametrize("prefix", ["/", "/v1/"])
def test_documented_openai_routes_have_these_methods(prefix: str) -> None:
    documented = documented_routes("Routes")
    found = {path: routes.find(prefix + path.replace("{id}", "x")) for path in documented}
    assert {path: set(methods or ()) for path, methods in found.items()} == documented


def test_operators_routes_are_documented() -> None:
    described = {
        path: {method.upper() for method in operations}
        for path, operations in api.get_openapi_schema()["paths"].items()
    }
    documented = documented_routes("Operators' routes")
    assert {path: methods for path, methods in documented.items() if path in described} == described


def test_documented_operators_routes_are_there() -> None:
    for path in documented_routes("Operators' routes"):
        resolve(path)  # raises for a path that is not there


def test_own_headers_are_documented() -> None:
    sent = {header for _, text in sources() for header in _HEADER.findall(text)}
    assert {name for name in named("http.md", "Answers") if name.startswith("x-llmproxy-")} == sent


@pytest.mark.parametrize("page", **BY_PAGE)
def test_a_page_names_only_headers_that_are_sent(page: Path) -> None:
    sent = {header for _, text in sources() for header in _HEADER.findall(text)}
    assert set(_HEADER.findall(page.read_text(encoding="utf-8"))) <= sent


def test_headers_passed_upstream_are_documented() -> None:
    from routing.openai.doorstep import _PASSED_UPSTREAM

    assert sorted(named("http.md", "Requests")) == sorted(name.decode() for name in _PASSED_UPSTREAM)


def test_error_codes_are_documented_with_their_status() -> None:
    documented = {(row[0], code(row[1])) for row in table("http.md", "Errors")}
    assert documented == {("in a stream" if status is None else str(status), name) for status, name in error_codes()}


def error_codes() -> set[tuple[int | None, str]]:
    """Status and code of every error in the code; no status: it comes inside a stream."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    codes: set[tuple[int | None, str]] = {(kind.status, kind.code) for kind in kinds.values() if kind.code}
    for node in (node for _, text in sources() for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Call):
            status = getattr(kinds.get(getattr(node.func, "id", "")), "status", None)
            codes |= {(status, name) for name in _texts((word.arg, word.value) for word in node.keywords)}
        elif isinstance(node, ast.Dict):
            keys = (key.value if isinstance(key, ast.Constant) else None for key in node.keys)
            codes |= {(None, name) for name in _texts(zip(keys, node.values, strict=True))}
    return codes


def _texts(pairs: Any) -> Iterator[str]:
    """The literal values of `code`."""
    for name, value in pairs:
        if name == "code" and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


@cache
def sources() -> list[tuple[Path, str]]:
    """All code of the gateway; the mock speaks as an upstream does."""
    files = [file for package in PACKAGES for file in sorted((PROJECT / package).rglob("*.py"))]
    return [(file, file.read_text(encoding="utf-8")) for file in files if "mock_upstream" not in file.parts]


def test_the_fields_of_health_are_documented(answers: dict[str, Any]) -> None:
    assert sorted(named("http.md", "/health")) == sorted(answers["health"])


def test_the_fields_of_stats_are_documented(answers: dict[str, Any]) -> None:
    told = answers["stats"]
    endpoint = told["model_groups"]["m"][0]
    fields = [*flat(told | {"model_groups": None}), *flat(endpoint)]
    assert sorted(named("http.md", "/stats")) == sorted(fields)


def test_metrics_are_documented_with_their_labels() -> None:
    documented = {code(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in table("numbers.md", "Metrics")}
    assert documented == by_metric()


@pytest.mark.parametrize("page", **BY_PAGE)
def test_a_page_names_only_metrics_that_are_told(page: Path) -> None:
    assert set(re.findall(r"\bllmproxy_\w+_(?:total|seconds|up|revision|state)\b", without_blocks(page))) <= {
        *by_metric()
    }


@pytest.fixture
async def answers() -> dict[str, Any]:
    """What /health and /stats say of a gateway with one endpoint."""
    configuration = parse(b"model_groups: [{model_group: m, models: [{model: x}]}]", "test.yaml").configuration
    link = StoreLink(StoreAddress("in_process", "memory://"))
    parts = GatewayParts(compile_loaded(LoadedConfiguration(1, configuration, {}), {}, Path("none")), link, {}, ())
    try:
        return {"health": await health_view(parts), "stats": await stats_view(parts)}
    finally:
        await parts.stop()


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of all leaves, joined by dots."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from flat(inner, f"{prefix}{key}.")
        else:
            yield prefix + key


# -- all pages


@pytest.mark.parametrize("page", **BY_PAGE)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not leads_somewhere(page, link)]
    assert not broken


@pytest.mark.parametrize("block", YAML_BLOCKS)
def test_a_yaml_block_is_a_configuration(block: str) -> None:
    assert parse(block.encode(), "block").configuration.model_groups


_FILE = re.compile(r"`((?:llmproxy_site|routing|cache_app|stats|tests|docs)/[\w./-]*)`")


@pytest.mark.parametrize("page", **BY_PAGE)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    missing = [name for name in _FILE.findall(page.read_text(encoding="utf-8")) if not (PROJECT / name).exists()]
    assert not missing
