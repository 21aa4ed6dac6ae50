"""References get their values; what has none is named, and everything else goes on."""

from pathlib import Path

import pytest

from llmproxy_site.environment import Environment
from routing.config.references import OWN_SECRETS, resolve
from routing.config.schema import Configuration

NOWHERE = Path("/nonexistent")


def one(endpoint=None, group=None, general=None):
    model = {"name": "e", "model": "m", **(endpoint or {})}
    return Configuration.model_validate(
        {"model_groups": [{"model_group": "g", "models": [model], **(group or {})}], "general_settings": general or {}}
    )


def resolved(configuration, variables=None, secrets_dir=NOWHERE, stored=None):
    return resolve(configuration, variables or {}, secrets_dir, stored or {})


def endpoint_of(resolution):
    return resolution.configuration.model_groups[0].models[0]


def test_a_variable_becomes_a_value_of_the_right_type():
    resolution = resolved(one({"weight": "os.environ/W", "enabled": "os.environ/E"}), {"W": "3", "E": "false"})

    assert (endpoint_of(resolution).weight, endpoint_of(resolution).enabled, resolution.missing) == (3, False, {})


def test_a_stored_key_is_revealed():
    stored = {"0123456789abcdef": "sk-1"}
    configuration = one({"params": {"api_key": "stored:0123456789abcdef"}})

    assert endpoint_of(resolved(configuration, stored=stored)).params.api_key == "sk-1"


def test_references_in_headers_and_queries_are_resolved():
    params = {"default_headers": {"x": "os.environ/H"}, "default_query": {"q": "os.environ/Q"}}
    found = endpoint_of(resolved(one({"params": params}), {"H": "h", "Q": "q"})).params

    assert (found.default_headers, found.default_query) == ({"x": "h"}, {"q": "q"})


def test_missing_references_are_named_sorted_and_the_endpoint_keeps_its_place():
    configuration = one({"weight": "os.environ/W", "params": {"api_key": "os.environ/K", "base_url": "file:url"}})
    resolution = resolved(configuration)

    assert resolution.missing == {"e": ("file:url", "os.environ/K", "os.environ/W")}
    assert (endpoint_of(resolution).weight, endpoint_of(resolution).params.api_key) == (1, None)


@pytest.mark.parametrize("name", sorted(OWN_SECRETS))
def test_the_gateways_own_secrets_are_never_resolved(name):
    bare = one()
    endpoint = bare.model_groups[0].models[0]
    params = endpoint.params.model_copy(update={"api_key": f"os.environ/{name}"})  # past the schema, which refuses it
    group = bare.model_groups[0].model_copy(update={"models": [endpoint.model_copy(update={"params": params})]})
    resolution = resolved(bare.model_copy(update={"model_groups": [group]}), {name: "s3cret"})

    assert (endpoint_of(resolution).params.api_key, resolution.missing) == (None, {"e": (f"os.environ/{name}",)})
    assert "s3cret" not in repr(resolution)


def test_all_secrets_of_the_environment_are_the_gateways_own():
    secret = [name for name, field in zip(Environment.variable_names(), Environment.model_fields.values(), strict=True)
              if not field.repr]  # fmt: skip

    assert sorted(secret) == sorted(OWN_SECRETS)


def test_an_empty_variable_is_missing():
    assert resolved(one({"params": {"api_key": "os.environ/K"}}), {"K": ""}).missing == {"e": ("os.environ/K",)}


def test_a_value_of_the_wrong_kind_is_missing_and_says_why():
    resolution = resolved(one({"weight": "os.environ/W"}), {"W": "many"})

    assert (resolution.missing, resolution.invalid) == (
        {"e": ("os.environ/W",)},
        {"os.environ/W": "must be a whole number"},
    )


def test_a_value_that_would_break_a_header_is_missing():
    resolution = resolved(one({"params": {"default_headers": {"x": "os.environ/H"}}}), {"H": "a\r\nb: c"})

    assert resolution.missing == {"e": ("os.environ/H",)}
    assert endpoint_of(resolution).params.default_headers == {}


def test_a_value_is_never_followed_as_a_reference():
    resolution = resolved(one({"params": {"api_key": "os.environ/K"}}), {"K": "os.environ/OTHER", "OTHER": "x"})

    assert (resolution.missing, endpoint_of(resolution).params.api_key) == ({"e": ("os.environ/K",)}, None)


def test_a_missing_setting_has_its_default_and_is_named():
    resolution = resolved(
        one(general={"bind_port": "os.environ/P", "cache_params": {"ttl": "os.environ/T"}}), {"T": "0"}
    )

    assert resolution.missing_general == ("os.environ/P", "os.environ/T")
    assert resolution.configuration.general_settings == Configuration().general_settings


def test_all_missing_ones_are_named_once():
    configuration = one(
        {"params": {"api_key": "os.environ/B"}}, general={"redis_url": "os.environ/A", "redis_ssl": "os.environ/B"}
    )

    assert resolved(configuration).all_missing == ("os.environ/A", "os.environ/B")


def test_a_missing_model_keeps_the_reference_as_its_text():
    resolution = resolved(one({"model": "os.environ/M"}))

    assert (endpoint_of(resolution).model, resolution.missing) == ("os.environ/M", {"e": ("os.environ/M",)})


def test_names_may_be_references():
    resolution = resolved(one({"name": "os.environ/N"}, {"model_group": "os.environ/G"}), {"N": "east", "G": "gpt"})

    assert (resolution.configuration.model_groups[0].model_group, endpoint_of(resolution).name) == ("gpt", "east")


def test_a_resolved_name_that_is_taken_leaves_the_reference_as_the_name():
    models = [{"model": "m", "name": "os.environ/N"}, {"model": "m", "name": "east"}]
    resolution = resolved(one(group={"models": models}), {"N": "east"})

    assert [model.name for model in resolution.configuration.model_groups[0].models] == ["os.environ/N", "east"]


def test_a_fallback_reference_that_names_no_group_is_left_out():
    resolution = resolved(one(group={"fallbacks": ["os.environ/F"]}), {"F": "nobody"})

    assert resolution.configuration.model_groups[0].fallbacks == []
    assert resolution.invalid == {"os.environ/F": "names no model group"}


def test_messages_hold_no_value():
    resolution = resolved(one({"weight": "os.environ/W"}), {"W": "sk-secret"})

    assert "sk-secret" not in repr(resolution.invalid)
