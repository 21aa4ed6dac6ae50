"""A file brought up to date: what it says then, and what of it is left alone."""

import difflib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy_site.environment import PROJECT
from routing.config.schema import Configuration
from routing.config.yaml_file import dump, parse
from routing.config.yaml_update import updated
from tests.unit.config.configurations import configurations, unhurried

EXAMPLE = (PROJECT / "llmproxy.yaml.example").read_text(encoding="utf-8")
FILE = """\
# Ours.
model_groups:
  # The big one.
  - model_group: big     # clients know it
    strategy: weighted_round_robin
    fallbacks: [small]   # then this
    models:

      # America
      - name: "west"
        model: m
        weight: 3        # three of four
        # rpm: 500
        params: {api_key: os.environ/WEST, base_url: 'https://west.example/v1'}

      # Europe
      - model: n
        enabled: on
        params:
          base_url: https://east.example
          default_query:
            # whose
            team: blue
            tenant: a

  - model_group: small
    models:
    - {name: tiny, model: t, rpm: null}
    # no more

# The rest.
general_settings:
  num_retries: 2
  # cooldown_time: 60
"""


# Written in a way of its own, which is not understood.
_LONG_KEY = re.compile(r"^ *\? ", re.MULTILINE)


def changed(text, change):
    """The file after `change` was done to its configuration, as plain data."""
    parsed = parse(text.encode(), "f")
    plain = parsed.configuration.plain()
    change(plain)
    configuration = Configuration.model_validate(plain)
    made = updated(text.encode(), parsed, configuration)
    assert made is not None
    assert parse(made, "f").configuration == configuration
    return made.decode()


def lines(change, text=FILE):
    """Lines that went and lines that came."""
    found = list(difflib.unified_diff(text.splitlines(), changed(text, change).splitlines(), n=0))[2:]
    return [line[1:] for line in found if line[0] == "-"], [line[1:] for line in found if line[0] == "+"]


def group(plain, index=0):
    return plain["model_groups"][index]


def west(plain):
    return group(plain)["models"][0]


def east(plain):
    return group(plain)["models"][1]


def test_one_value_is_one_line_and_its_comment_stays_where_it_is():
    assert lines(lambda plain: west(plain).update(weight=12)) == (
        ["        weight: 3        # three of four"],
        ["        weight: 12       # three of four"],
    )


def test_a_value_that_became_the_default_is_said():
    assert lines(lambda plain: west(plain).update(weight=1))[1] == ["        weight: 1        # three of four"]


def test_quotes_stay():
    assert lines(lambda plain: west(plain)["params"].update(base_url="https://w2.example/v1"))[1] == [
        "        params: {api_key: os.environ/WEST, base_url: 'https://w2.example/v1'}"
    ]
    assert lines(lambda plain: west(plain).update(name="we'st"))[1] == ['''      - name: "we'st"''']


def test_a_value_that_is_none_now_goes_with_its_line():
    assert lines(lambda plain: east(plain)["params"]["default_query"].pop("tenant")) == (["            tenant: a"], [])


def test_a_value_that_is_none_now_goes_out_of_its_braces():
    assert lines(lambda plain: west(plain)["params"].update(api_key=None))[1] == [
        "        params: {base_url: 'https://west.example/v1'}"
    ]


def test_a_mapping_that_loses_everything_is_empty():
    assert lines(lambda plain: east(plain)["params"].update(default_query={})) == (
        ["          default_query:", "            # whose", "            team: blue", "            tenant: a"],
        ["          default_query: {}"],
    )


def test_a_new_value_comes_where_people_would_write_it():
    def change(plain):
        west(plain).update(enabled=False, http_timeout=9.0)
        west(plain)["params"].update(provider="openai")
        east(plain)["params"]["default_query"].update(user="me")
        plain["general_settings"].update(cooldown_time=5, bind_port=1)
        plain["general_settings"]["cache_params"]["ttl"] = 7

    assert changed(FILE, change) == FILE.replace(
        "# three of four\n", "# three of four\n        enabled: false\n        http_timeout: 9\n"
    ).replace("/v1'}", "/v1', provider: openai}").replace("tenant: a\n", "tenant: a\n            user: me\n").replace(
        "  num_retries: 2\n",
        "  bind_port: 1\n  num_retries: 2\n  cooldown_time: 5\n  cache_params:\n    ttl: 7\n",
    )


def test_endpoints_change_places_with_their_comments():
    text = changed(FILE, lambda plain: group(plain)["models"].reverse())
    before, rest = FILE.split("      # America\n")
    america, rest = rest.split("      # Europe\n")
    europe, after = rest.split("\n  - model_group: small")

    assert text == (f"{before}      # Europe\n{europe}\n      # America\n{america[:-1]}\n  - model_group: small{after}")


def test_groups_change_places_with_their_comments():
    text = changed(FILE, lambda plain: (group(plain).update(fallbacks=[]), plain["model_groups"].reverse()))

    assert (
        text.index("- {name: tiny") < text.index("# no more") < text.index("# The big one.") < text.index("# The rest.")
    )
    assert "  # The big one.\n  - model_group: big" in text


def test_a_removed_endpoint_goes_with_its_comments():
    assert "America" not in changed(FILE, lambda plain: group(plain)["models"].pop(0))


def test_a_new_endpoint_stands_in_its_place():
    def change(plain):
        group(plain)["models"].insert(1, {"name": "mid", "model": "o", "params": {"base_url": "https://mid.example"}})

    assert lines(change) == (
        [],
        ["", "      - name: mid", "        model: o", "        params:", "          base_url: https://mid.example"],
    )


def test_an_endpoint_of_another_style_gets_its_neighbour():
    assert lines(lambda plain: group(plain, 1)["models"].append({"name": "two", "model": "t"}))[1] == [
        "    - name: two",
        "      model: t",
    ]


def test_a_new_group_stands_behind_all_that_belongs_to_the_one_before():
    text = changed(FILE, lambda plain: plain["model_groups"].append({"model_group": "new", "models": [{"model": "x"}]}))

    assert "    # no more\n\n  - model_group: new\n    models:\n      - model: x\n\n# The rest.\n" in text


def test_a_renamed_group_keeps_its_lines():
    def change(plain):
        group(plain, 1)["model_group"] = "little"
        group(plain)["fallbacks"] = ["little"]

    assert lines(change)[1] == ["    fallbacks: [little]  # then this", "  - model_group: little"]


def test_a_renamed_endpoint_keeps_its_lines():
    assert lines(lambda plain: west(plain).update(name="far-west"))[1] == ['      - name: "far-west"']


def test_an_endpoint_without_a_name_gets_its_own_when_another_would_come_of_it():
    name = parse(FILE.encode(), "f").configuration.model_groups[0].models[1].name

    assert lines(lambda plain: east(plain).update(model="other"))[1] == [
        "      - model: other",
        f"        name: {name}",
    ]


def test_the_second_of_two_nameless_endpoints_stays_the_second():
    text = "model_groups:\n- model_group: g\n  models:\n  - model: m\n  - model: m\n  - model: m\n"
    name = parse(text.encode(), "f").configuration.model_groups[0].models[0].name

    assert lines(lambda plain: group(plain)["models"].pop(0), text) == (
        ["  - model: m"],
        [f"    name: {name}-2", f"    name: {name}-3"],
    )


def test_a_key_in_clear_is_replaced_by_what_stands_for_it():
    text = FILE.replace("os.environ/WEST", "sk-clear")

    assert "sk-clear" not in changed(
        text, lambda plain: west(plain)["params"].update(api_key="stored:0123456789abcdef")
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        "model_groups: []\n",
        "general_settings: {num_retries: 1}\n",
        "general_settings:\n",
        "model_groups: # none\ngeneral_settings:\n  num_retries: 1",
        '{"model_groups": [], "general_settings": {}}',
    ],
)
def test_groups_may_come_into_any_file(text):
    models = [{"name": "a", "model": "m", "params": {"default_headers": {"x": "y"}}}]

    def change(plain):
        plain["model_groups"] = [{"model_group": "g", "models": models}]
        plain["general_settings"]["redis_host"] = "h"

    changed(text, change)


def test_a_file_of_windows_keeps_its_line_ends_and_its_mark():
    text = FILE.replace("\n", "\r\n")
    parsed = parse(b"\xef\xbb\xbf" + text.encode(), "f")
    plain = parsed.configuration.plain()
    group(plain)["models"].reverse()
    west(plain).update(rpm=5)
    made = updated(b"\xef\xbb\xbf" + text.encode(), parsed, Configuration.model_validate(plain))

    assert made.startswith(b"\xef\xbb\xbf# Ours.\r\n")
    assert made.count(b"\n") == made.count(b"\r\n") == text.count("\n") + 1


def test_the_example_with_one_other_weight_differs_in_one_line():
    assert [len(side) for side in lines(lambda plain: west(plain).update(weight=9), EXAMPLE)] == [1, 1]


def test_what_says_the_same_is_left_as_it_is():
    parsed = parse(EXAMPLE.encode(), "f")

    assert updated(EXAMPLE.encode(), parsed, parsed.configuration) == EXAMPLE.encode()


def _commented(text):
    """A comment above and behind every line."""
    made = []
    for number, line in enumerate(text.splitlines()):
        indent = line[: len(line) - len(line.lstrip())]
        made += [f"{indent}# above {number}", f"{line}  # behind {number}"]
    return "\n".join(made) + "\n"


STYLES = {
    "block": lambda configuration: dump(configuration),
    "with comments": lambda configuration: _commented(dump(configuration)),
    "with blank lines": lambda configuration: dump(configuration).replace("\n", "\n\n"),
    "Windows": lambda configuration: dump(configuration).replace("\n", "\r\n"),
    "JSON": lambda configuration: json.dumps(configuration.plain(without_defaults=True), ensure_ascii=False),
    "JSON in lines": lambda configuration: json.dumps(
        configuration.plain(without_defaults=True), ensure_ascii=False, indent=2
    ),
    "everything said": lambda configuration: json.dumps(configuration.plain(), ensure_ascii=False, indent=1),
}


@unhurried
@given(before=configurations(), after=configurations(), style=st.sampled_from(sorted(STYLES)))
def test_whatever_the_file_it_then_says_what_it_should(before, after, style):
    text = STYLES[style](before)
    parsed = parse(text.encode(), "f")
    made = updated(text.encode(), parsed, after)

    assert (made is None and _LONG_KEY.search(text)) or parse(made, "f").configuration == after


@st.composite
def edits(draw):
    """A configuration, and one that has the same groups and endpoints in another order, some of them changed."""
    before = draw(configurations())
    plain = before.plain()
    for one in plain["model_groups"]:
        one["models"] = draw(st.permutations(one["models"]))
        for endpoint in one["models"]:
            endpoint["weight"] = draw(st.integers(0, 5))
            endpoint["rpm"] = draw(st.none() | st.integers(1, 5))
            endpoint["params"]["default_query"] = draw(st.dictionaries(st.sampled_from("abc"), st.just("1")))
    plain["general_settings"]["num_retries"] = draw(st.integers(0, 9))
    plain["model_groups"] = draw(st.permutations(plain["model_groups"]))
    return before, Configuration.model_validate(plain)


@unhurried
@given(edits())
def test_whatever_moves_comments_go_with_it(pair):
    before, after = pair
    text = re.sub(r"^( *- (?:name|model|model_group): .*)$", r"\1  # behind", dump(before), flags=re.MULTILINE)
    made = updated(text.encode(), parse(text.encode(), "f"), after)

    assert (made is None and _LONG_KEY.search(text)) or (
        parse(made, "f").configuration == after and made.count(b"# behind") == text.count("# behind")
    )
