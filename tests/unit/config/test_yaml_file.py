"""YAML becomes a configuration or a list of everything that is wrong with it, each with line and column."""

import pytest

from routing.config.schema import Configuration
from routing.config.yaml_file import FileInvalid, dump, parse


def errors(text):
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(FileInvalid) as caught:
        parse(content, "f.yaml")
    return str(caught.value).splitlines()


def configuration(text):
    return parse(text.encode(), "f.yaml").configuration


WRONG_IN_MANY_WAYS = """\
model_groups:
  - model_group: gpt
    stratgy: least_busy
    fallbacks: [nobody]
    models:
      - model: m
        weight: -1
        api_key: os.environ/KEY
      - name: twin
        weight: many
        params: {base_url: ftp://host, provider: gcp}
      - name: twin
        model: 5
        params:
          default_headers:
            host: example.com
  - model_group: gpt
general_settings:
  bind_port: 99999
  num_retries:
  cache_params: {ttl: 0}
  bind_port: 5
"""


def test_everything_wrong_is_found_at_once_with_its_place():
    assert errors(WRONG_IN_MANY_WAYS) == [
        'f.yaml:3:5 model_groups[0].stratgy unknown key, did you mean "strategy"?',
        'f.yaml:4:17 model_groups[0].fallbacks[0] there is no model group "nobody"',
        "f.yaml:7:17 model_groups[0].models[0].weight must be at least 0",
        "f.yaml:8:9 model_groups[0].models[0].api_key unknown key, it belongs into params",
        "f.yaml:9:9 model_groups[0].models[1].model is missing",
        "f.yaml:10:17 model_groups[0].models[1].weight must be a whole number",
        "f.yaml:11:28 model_groups[0].models[1].params.base_url must be a URL that begins with http:// or https://",
        "f.yaml:11:50 model_groups[0].models[1].params.provider must be one of auto, openai, azure",
        'f.yaml:12:15 model_groups[0].models[2].name "twin" is already the name of model_groups[0].models[1]: '
        "names must be unique",
        "f.yaml:13:16 model_groups[0].models[2].model must be text: put it in quotes",
        "f.yaml:16:13 model_groups[0].models[2].params.default_headers.host may not be set: LLMProxy sets this header itself",
        "f.yaml:17:5 model_groups[1].models is empty: a group needs at least one model or a fallback",
        'f.yaml:17:18 model_groups[1].model_group "gpt" is already the name of model_groups[0]: names must be unique',
        "f.yaml:19:14 general_settings.bind_port must be at most 65535",
        "f.yaml:20:3 general_settings.num_retries has no value; it must be a whole number",
        "f.yaml:21:23 general_settings.cache_params.ttl must be at least 1",
        "f.yaml:22:3 general_settings.bind_port stands here twice, first in line 19: remove one",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "f.yaml:1:1 is empty: a configuration begins with model_groups:"),
        ("# only a comment\n", "f.yaml:1:1 is empty: a configuration begins with model_groups:"),
        ("text\n", "f.yaml:1:1 is not a mapping: a configuration begins with model_groups:"),
        ("- model_group: m\n", "f.yaml:1:1 is not a mapping: a configuration begins with model_groups:"),
        ("model_groups:\n\t- a\n", "f.yaml:2:1 a tab: indent with spaces"),
        ("model_groups: x: y\n", "f.yaml:1:16 a second `: ` in one value (quote it), or a wrong indent"),
        (
            "general_settings: &a {}\n",
            "f.yaml:1:19 an anchor (&name) is not allowed: write the value out where it is needed",
        ),
        ("general_settings: *a\n", "f.yaml:1:19 an alias (*name) is not allowed: write the value out"),
        ("general_settings: !!map {}\n", "f.yaml:1:19 a tag (!name) is not allowed: write the plain value"),
        ("a: !!python/object:os.system x\n", "f.yaml:1:4 a tag (!name) is not allowed: write the plain value"),
        ("%YAML 1.1\n---\na: 1\n", "f.yaml:2:1 a directive (%) is not allowed: remove the line"),
        ("{}\n---\n{}\n", "f.yaml:2:1 a second document: a configuration is one document, without ---"),
        ("? [a]\n: b\n", "f.yaml:1:3 a key must be plain text: put quotes around it or around the value"),
        ("a: '\n", "f.yaml:2:1 the file ends within quotes that were never closed"),
        ("a: @b\n", "f.yaml:1:4 begins with a character that means something in YAML: put the value in quotes"),
        ("a: " + "[" * 30, "f.yaml:1:23 nested deeper than 20 levels"),
        (b"a: \xe9\n", "f.yaml:1:4 is not UTF-8 text: save the file as UTF-8"),
        (b"a: b\nc: \0\n", "f.yaml:2:4 a control character: is this a text file?"),
        (b"\x89PNG\r\n\x1a\n", "f.yaml:1:1 is not UTF-8 text: save the file as UTF-8"),
        (b" " * (1024 * 1024 + 1), "f.yaml:1:1 the file is larger than 1 MiB, too large for a configuration"),
        ("model_list: []\n", 'f.yaml:1:1 model_list unknown key, did you mean "model_groups"?'),
        ("model_groups: {}\n", "f.yaml:1:15 model_groups must be a list"),
        ("model_groups: [gpt]\n", "f.yaml:1:16 model_groups[0] must be a mapping (key: value)"),
        ("general_settings: [1]\n", "f.yaml:1:19 general_settings must be a mapping (key: value)"),
        ("general_settings: os.environ/ALL\n", "f.yaml:1:19 general_settings must be a mapping (key: value)"),
        (
            "general_settings: {cache_params: {type: local}}\n",
            "f.yaml:1:41 general_settings.cache_params.type must be redis",
        ),
        ("<<: {}\n", "f.yaml:1:1 << unknown key"),
        ('"a\\e[31m": 1\n', "f.yaml:1:1 a\\x1b[31m unknown key"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(text, error):
    assert errors(text) == [error]


def test_a_thousand_levels_do_not_exhaust_the_stack():
    assert errors("a: " + "{a: " * 100_000)[0].startswith("f.yaml:1:")


def test_a_value_twice_as_long_as_numbers_may_be_is_text():
    assert errors("general_settings: {bind_port: " + "9" * 5000 + "}")[0].startswith(
        "f.yaml:1:31 general_settings.bind_port"
    )


def test_an_unquoted_date_is_text():
    text = "model_groups: [{model_group: g, models: [{model: m, params: {api_version: 2024-10-21}}]}]"

    assert configuration(text).model_groups[0].models[0].params.api_version == "2024-10-21"


def test_a_byte_order_mark_is_ignored():
    assert parse(b"\xef\xbb\xbfmodel_groups: []\n", "f.yaml").configuration == Configuration()


def test_windows_line_ends_are_read():
    assert errors("model_groups: []\r\nwrong: 1\r\n") == ["f.yaml:2:1 wrong unknown key"]


def test_a_section_without_content_is_its_default():
    assert configuration("model_groups:\ngeneral_settings:\n") == Configuration()


def test_a_file_tells_whether_it_names_the_general_settings():
    without, with_them = (
        parse(text, "f").names_general_settings for text in (b"model_groups:\n", b"general_settings: {cache: true}\n")
    )

    assert (without, with_them) == (False, True)


def test_dump_is_readable_ordered_and_leaves_defaults_out():
    text = (
        "general_settings: {http_timeout: 30.0, cache_params: {ttl: 5}, bind_port: 4243}\n"
        "model_groups: [{models: [{params: {default_headers: {x-b: '1', x-a: 'yes'}, api_key: os.environ/K}, stream_timeout: 7,"
        " weight: os.environ/W, model: m, name: e}, {model: n}], cache: false, model_group: g}]\n"
    )

    assert dump(configuration(text)) == (
        "model_groups:\n"
        "  - model_group: g\n"
        "    cache: false\n"
        "    models:\n"
        "      - name: e\n"
        "        model: m\n"
        "        weight: os.environ/W\n"
        "        stream_timeout: 7\n"
        "        params:\n"
        "          api_key: os.environ/K\n"
        "          default_headers:\n"
        "            x-a: yes\n"
        "            x-b: '1'\n"
        "      - model: n\n"
        "general_settings:\n"
        "  http_timeout: 30\n"
        "  cache_params:\n"
        "    ttl: 5\n"
    )


def test_dump_of_nothing_is_a_valid_file():
    assert dump(Configuration()) == "model_groups: []\n"
