"""Whatever the configuration: its YAML is read back as the same one."""

from hypothesis import given

from routing.config.schema import Configuration
from routing.config.yaml_file import dump, parse
from tests.unit.config.configurations import configurations, unhurried


@unhurried
@given(configurations())
def test_dumped_and_parsed_is_equal(configuration):
    assert parse(dump(configuration).encode(), "f").configuration == configuration


@unhurried
@given(configurations())
def test_dumping_twice_gives_the_same_text(configuration):
    text = dump(configuration)

    assert dump(parse(text.encode(), "f").configuration) == text


@unhurried
@given(configurations())
def test_a_snapshot_without_defaults_is_read_back(configuration):
    assert Configuration.model_validate(configuration.plain(without_defaults=True)) == configuration
