"""An endpoint's own price: in the file, among its mistakes, in the table, and which price counts."""

import pytest

from routing.config.schema import Configuration
from routing.config.yaml_file import FileInvalid, dump, parse
from stats.prices import Price
from tests.unit.tables import group_of, model


def priced(price: str) -> bytes:
    return b"model_groups: [{model_group: g, models: [{model: m, price: %b}]}]\n" % price.encode()


def mistakes(price: str) -> list[str]:
    with pytest.raises(FileInvalid) as invalid:
        parse(priced(price), "f.yaml")
    return [str(problem.problem) for problem in invalid.value.problems]


@pytest.mark.parametrize(
    ("price", "compiled"),
    [
        ({}, None),
        ({"input": 2.5}, Price(2.5)),
        ({"input": 2.5, "output": 10, "cached_input": 1.25}, Price(2.5, 10.0, 1.25)),
        ({"input": 0, "output": 0}, Price(0.0, 0.0)),
        ({"input": "0.02"}, Price(0.02)),
    ],
)
def test_the_table_has_the_price(price, compiled):
    (endpoint,) = group_of(model("a", price=price)).endpoints
    assert endpoint.price == compiled


def test_another_price_is_no_other_endpoint():
    (cheap,), (dear,) = (group_of(model("a", price={"input": dollars})).endpoints for dollars in (1, 2))
    assert cheap.id == dear.id


@pytest.mark.parametrize("nothing", ["", "{}", "null", "{input: null}", "{input: ''}"])
def test_no_price_is_no_price(nothing):
    assert parse(priced(nothing), "f.yaml").configuration.model_groups[0].models[0].price.input is None


@pytest.mark.parametrize(
    ("price", "complaint"),
    [
        ("{input: -1}", "input must be at least 0"),
        ("{input: true}", "input must be a number"),
        ("{input: .inf}", "input must be a finite number"),
        ("{input: 1000001}", "input must be at most 1000000"),
        ("{inputs: 1}", 'inputs unknown key, did you mean "input"?'),
        ("{output: 1}", "input is missing: the other prices stand only beside it"),
        ("{input: null, cached_input: 0}", "input is missing: the other prices stand only beside it"),
    ],
)
def test_mistakes_are_told_with_their_place(price, complaint):
    assert mistakes(price) == [f"model_groups[0].models[0].price.{complaint}"]


def test_a_price_is_a_mapping():
    assert mistakes("2.5") == ["model_groups[0].models[0].price must be a mapping (key: value)"]


def test_export_writes_it_before_params():
    text = priced("{cached_input: 1.25, output: 10.0, input: 2.5}, params: {api_key: os.environ/K}")
    assert dump(parse(text, "f.yaml").configuration) == (
        "model_groups:\n"
        "  - model_group: g\n"
        "    models:\n"
        "      - model: m\n"
        "        price:\n"
        "          input: 2.5\n"
        "          output: 10\n"
        "          cached_input: 1.25\n"
        "        params:\n"
        "          api_key: os.environ/K\n"
    )


def test_configurations_from_before_there_were_prices_are_read():
    old = Configuration.model_validate({"model_groups": [{"model_group": "g", "models": [{"model": "m"}]}]})
    assert old.plain()["model_groups"][0]["models"][0]["price"] == {"input": None, "output": None, "cached_input": None}
