"""What differs between two configurations."""

from hypothesis import given

from routing.config.differences import Change, differences
from routing.config.schema import Configuration
from tests.unit.config.configurations import configurations, unhurried


def made(general=None, **groups):
    return Configuration.model_validate(
        {
            "model_groups": [
                {"model_group": name, "models": [{"name": model, "model": "m"} for model in models]}
                for name, models in groups.items()
            ],
            "general_settings": general or {},
        }
    )


@unhurried
@given(configurations())
def test_a_configuration_does_not_differ_from_itself(configuration):
    assert differences(configuration, configuration) == []


@unhurried
@given(configurations(), configurations())
def test_only_equal_configurations_have_no_differences(one, other):
    assert (differences(one, other) == []) == (one == other)


def test_what_came_and_went_is_told():
    assert differences(made(a=["x"]), made(b=["y"])) == [
        Change("removed", "model group a"),
        Change("added", "model group b", after={}),
        Change("removed", "endpoint x", before="a"),
        Change("added", "endpoint y", before="b", after={"model": "m"}),
    ]


def test_a_changed_value_is_told_by_its_key():
    assert differences(made(), made({"cache_params": {"ttl": 5}})) == [
        Change("changed", "general settings", "cache_params.ttl", 604800, 5)
    ]


def test_an_endpoint_that_changes_its_group_moves():
    assert Change("moved", "endpoint x", before="a", after="b") in differences(
        made(a=["x", "y"], b=["z"]), made(a=["y"], b=["z", "x"])
    )


def test_a_new_order_is_told():
    assert differences(made(a=["x", "y"]), made(a=["y", "x"])) == [
        Change("moved", "endpoints of a", "order", ["x", "y"], ["y", "x"])
    ]
