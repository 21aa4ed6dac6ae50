"""The configuration's schema: defaults, bounds, names, and what is refused."""

import pytest
from pydantic import ValidationError

from routing.config.schema import Configuration, EndpointConfig, GeneralSettings, GroupConfig, Params, problems
from routing.config.wording import problems_of


def endpoint(**fields):
    return EndpointConfig.model_validate({"model": "m", **fields})


def groups(*names_and_fallbacks):
    return Configuration.model_validate(
        {
            "model_groups": [
                {"model_group": name, "fallbacks": fallbacks, "models": [{"model": name}]}
                for name, fallbacks in names_and_fallbacks
            ]
        }
    )


def messages(configuration):
    return [str(problem) for problem in problems(configuration)]


def test_defaults_are_the_documented_ones():
    assert GeneralSettings().plain() == {
        "bind_address": "127.0.0.1",
        "bind_port": 4243,
        "num_retries": 3,
        "allowed_fails": 1,
        "cooldown_time": 60,
        "connect_timeout": 5,
        "http_timeout": 600,
        "first_event_timeout": 60,
        "idle_timeout": 300,
        "stream_timeout": 3600,
        "http_max_connections": 1000,
        "max_request_body_bytes": 33554432,
        "max_response_bytes": 268435456,
        "max_in_flight": 2000,
        "redis_url": None,
        "redis_host": None,
        "redis_port": 6379,
        "redis_password": None,
        "redis_ssl": False,
        "redis_ssl_cert_reqs": "required",
        "cache": True,
        "cache_params": {
            "type": "redis",
            "ttl": 604800,
            "namespace": "llmproxy.cache",
            "host": None,
            "port": None,
            "password": None,
            "max_entry_bytes": 67108864,
        },
        "response_affinity_ttl": 21600,
        "client_auth": "auto",
    }


def test_a_group_has_the_documented_defaults():
    group = GroupConfig(model_group="g")

    assert (group.strategy, group.stream_recovery, group.cache, group.cache_policy, group.cache_shared) == (
        "weighted_round_robin",
        "error",
        True,
        "all",
        False,
    )
    assert (group.fallbacks, group.cache_ttl, group.num_retries, group.connect_timeout) == ([], None, None, None)


def test_an_endpoint_has_the_documented_defaults():
    assert (endpoint().weight, endpoint().enabled, endpoint().rpm, endpoint().params) == (1, True, None, Params())
    assert (Params().provider, Params().ask_usage, Params().transport) == ("auto", "auto", "auto")


def test_numbers_and_switches_may_come_as_text():
    made = endpoint(weight="7", enabled="no", http_timeout="2.5")

    assert (made.weight, made.enabled, made.http_timeout) == (7, False, 2.5)


@pytest.mark.parametrize("reference", ["os.environ/W", "file:w", "file:dir/w"])
def test_a_reference_may_stand_for_any_value(reference):
    made = endpoint(weight=reference, enabled=reference, params={"provider": reference, "base_url": reference})

    assert [made.weight, made.enabled, made.params.provider, made.params.base_url] == [reference] * 4


@pytest.mark.parametrize(
    "text", ["os.environ/", "os.environ/A B", "file:", "file:../x", "file:/etc/passwd", "file:a/../b"]
)
def test_a_malformed_reference_is_refused(text):
    with pytest.raises(ValidationError, match="not a usable reference"):
        Params(api_key=text)


@pytest.mark.parametrize(
    "section",
    [
        lambda own: Params(api_key=own),
        lambda own: Params(base_url=own),
        lambda own: Params(default_headers={"x": own}),
        lambda own: Params(default_query={"q": own}),
        lambda own: endpoint(model=own),
        lambda own: GeneralSettings(redis_password=own),
        lambda own: GroupConfig(model_group="g", fallbacks=[own]),
    ],
)
@pytest.mark.parametrize("name", ["LLMPROXY_SECRET_KEY", "llmproxy_admin_password", "DATABASE_URL"])
def test_the_gateways_own_secrets_are_no_values_for_a_configuration(section, name):
    with pytest.raises(ValidationError, match="names a secret of the gateway itself"):
        section(f"os.environ/{name}")


def test_other_variables_of_the_gateway_may_be_used():
    assert Params(api_key="os.environ/LLMPROXY_OF_MINE").api_key == "os.environ/LLMPROXY_OF_MINE"


def test_a_stored_key_may_stand_only_where_a_key_belongs():
    assert Params(api_key="stored:0123456789abcdef").api_key == "stored:0123456789abcdef"
    with pytest.raises(ValidationError, match="not a usable reference"):
        endpoint(model="stored:0123456789abcdef")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", -1),
        ("weight", 1.5),
        ("weight", True),
        ("weight", None),
        ("rpm", 0),
        ("http_timeout", 0),
        ("http_timeout", float("inf")),
        ("http_timeout", float("nan")),
        ("name", "line\nbreak"),
        ("name", "nämé"),
        ("model", ""),
        ("model", " m"),
        ("model", "x" * 201),
        ("model", "\ud800"),
        ("model", 5),
        ("params", "text"),
        ("unknown", 1),
    ],
)
def test_an_endpoint_refuses(key, value):
    with pytest.raises(ValidationError):
        endpoint(**{key: value})


@pytest.mark.parametrize(
    "url", ["https://api.openai.com", "http://[::1]:8000/v1", "http://localhost:1/", "https://h/v1beta/openai"]
)
def test_base_url_accepts(url):
    assert Params(base_url=url).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com",
        "ftp://host",
        "https://",
        "https://user:key@host",
        "https://host?x=1",
        "https://host?",
        "https://host#x",
        "https://host:0",
        "https://host:99999",
        "https://host:x",
        "https://ho st",
        "https://host/a b",
        "https://host\\x",
        "https://:80",
        "https://[::1",
        "https://host/\r\nx: y",
        "https://höst",
    ],
)
def test_base_url_refuses(url):
    with pytest.raises(ValidationError):
        Params(base_url=url)


@pytest.mark.parametrize(
    "headers", [{"x-team": "a b"}, {"Authorization": "Bearer x"}, {"x": "os.environ/H"}, {"x": ""}]
)
def test_default_headers_accept(headers):
    assert Params(default_headers=headers).default_headers == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nauthorization: b"},
        {"x": "a\0"},
        {"x": "ü"},
        {"x y": "a"},
        {"": "a"},
        {"Host": "h"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "close"},
        {"a": "1", "A": "2"},
        {"x": 1},
        {"x": "os.environ/"},
    ],
)
def test_default_headers_refuse(headers):
    with pytest.raises(ValidationError):
        Params(default_headers=headers)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "kéy"])
def test_a_key_that_no_header_could_carry_is_refused(key):
    with pytest.raises(ValidationError):
        Params(api_key=key)


def test_an_unusable_api_version_is_told_in_plain_words():
    with pytest.raises(ValidationError) as caught:
        Params(api_version="yesterday")

    (problem,) = problems_of(caught.value)
    assert problem.message == "must be a date such as 2025-04-01-preview, or v1, preview or latest"


def test_an_error_never_repeats_the_value():
    with pytest.raises(ValidationError) as caught:
        Params(api_key="sk secret", base_url="https://me:sk-secret@host", default_headers={"x": "sk-secret\n"})

    assert "secret" not in str(caught.value)


def test_an_empty_optional_text_is_no_value():
    assert GeneralSettings(redis_host="", redis_password="").redis_host is None


def test_an_empty_structure_is_its_default():
    parsed = Configuration.model_validate({"model_groups": None, "general_settings": None})

    assert parsed == Configuration()


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://:pw@h", "unix:///run/valkey.sock"])
def test_redis_url_accepts(url):
    assert GeneralSettings(redis_url=url).redis_url == url


@pytest.mark.parametrize("url", ["http://h", "redis://", "unix://", "redis://h:x", "h:6379"])
def test_redis_url_refuses(url):
    with pytest.raises(ValidationError):
        GeneralSettings(redis_url=url)


def test_endpoints_without_a_name_get_one_from_model_and_host():
    parsed = groups(("a", []), ("b", []))
    names = [group.models[0].name for group in parsed.model_groups]

    assert names[0].startswith("a-") and names[1].startswith("b-")


def test_default_names_are_unique_and_avoid_given_ones():
    def named(*models):
        parsed = Configuration.model_validate({"model_groups": [{"model_group": "g", "models": list(models)}]})
        return [model.name for model in parsed.model_groups[0].models]

    first = named({"model": "m"})[0]

    assert named({"model": "m"}, {"model": "m"}, {"model": "x", "name": first}) == [f"{first}-2", f"{first}-3", first]


def test_a_trailing_slash_does_not_change_the_default_name():
    def name(url):
        model = {"model": "m", "params": {"base_url": url}}
        parsed = Configuration.model_validate({"model_groups": [{"model_group": "g", "models": [model]}]})
        return parsed.model_groups[0].models[0].name

    assert name("https://h/v1/") == name("https://h/v1") != name("https://other/v1")


def test_a_configuration_without_contradictions_has_no_problems():
    assert messages(groups(("a", ["b", "c"]), ("b", ["c"]), ("c", []))) == []


def test_two_groups_of_one_name_are_a_problem():
    assert messages(groups(("a", []), ("a", []))) == [
        'model_groups[1].model_group "a" is already the name of model_groups[0]: names must be unique'
    ]


def test_an_unknown_fallback_is_a_problem_with_a_suggestion():
    assert messages(groups(("gpt-4o", ["claud"]), ("claude", []))) == [
        'model_groups[0].fallbacks[0] there is no model group "claud", did you mean "claude"?'
    ]


def test_a_loop_of_fallbacks_is_a_problem_at_each_of_its_links():
    assert messages(groups(("a", ["b"]), ("b", ["c"]), ("c", ["a"]))) == [
        "model_groups[0].fallbacks[0] makes a loop of fallbacks: a -> b -> c -> a",
        "model_groups[1].fallbacks[0] makes a loop of fallbacks: b -> c -> a -> b",
        "model_groups[2].fallbacks[0] makes a loop of fallbacks: c -> a -> b -> c",
    ]


def test_a_group_that_nobody_serves_is_a_problem():
    empty = Configuration.model_validate({"model_groups": [{"model_group": "g"}]})

    assert messages(empty) == ["model_groups[0].models is empty: a group needs at least one model or a fallback"]


def test_two_addresses_of_the_store_are_a_problem():
    both = Configuration.model_validate({"general_settings": {"redis_url": "redis://h", "redis_host": "h"}})

    assert messages(both) == ["general_settings.redis_url stands beside redis_host: give one of them"]
