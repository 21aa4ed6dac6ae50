"""Hypothesis strategies for whole configurations; what they make is valid."""

import string

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from routing.config.schema import Configuration, problems

_VISIBLE = string.ascii_letters + string.digits + string.punctuation
# A busy machine is no failure of the code.
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
references = st.from_regex(r"os\.environ/[A-Z_]{1,8}|file:[a-z]{1,8}", fullmatch=True)
_TRICKY = """
yes|null|~|true|1|1.0|0x1f|1e3|.inf|2024-01-01|[a]|{a}|&a|*a|!a|%a|@a|`a`|"|'|>|=|<<|é|日本|😀|?|:|12:30|a: b|# c|- x|a #b
"""
_tricky = st.sampled_from([*_TRICKY.strip().split("|"), "|", "a" * 150])
names = _tricky | st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
texts = _tricky | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12).filter(str.isprintable)
ascii_names = st.text(_VISIBLE, min_size=1, max_size=12)
seconds = st.floats(0.001, 100_000) | st.integers(1, 1000)
_MALFORMED = ("os.environ/", "file:", "stored:")


def _sometimes(**fields):
    return st.fixed_dictionaries({}, optional={key: values | references for key, values in fields.items()})


def _plain(strategy):
    return strategy.filter(lambda text: not text.startswith(_MALFORMED))


timeouts = dict.fromkeys(("connect_timeout", "http_timeout", "first_event_timeout", "idle_timeout"), seconds)
params = st.builds(
    lambda scalars, pairs: scalars | pairs,
    _sometimes(
        api_key=_plain(ascii_names),
        base_url=st.sampled_from(["https://a.example", "http://localhost:8000/v1", "https://b.example/v1beta/"]),
        api_version=_plain(st.sampled_from(["2024-10-21", "2025-04-01-preview", "v1", "preview", "latest"])),
        provider=st.sampled_from(["auto", "openai", "azure"]),
        ca_file=_plain(texts),
        transport=st.sampled_from(["auto", "fast", "httpx"]),
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "default_query": st.dictionaries(names, _plain(texts) | references, max_size=3),
            "default_headers": st.dictionaries(
                st.sampled_from(["x-a", "X-B", "authorization"]), _plain(ascii_names) | references, max_size=3
            ),
        },
    ),
)
dollars = st.floats(0, 1000) | references
price = st.fixed_dictionaries({"input": dollars}, optional={"output": dollars, "cached_input": dollars})
endpoints = st.builds(
    lambda required, scalars, inner: required | scalars | inner,
    st.fixed_dictionaries({"model": _plain(names)}),
    _sometimes(
        weight=st.integers(0, 100), enabled=st.booleans(), rpm=st.integers(1, 10**6), max_parallel=st.none(), **timeouts
    ),
    st.fixed_dictionaries({}, optional={"params": params, "name": _plain(ascii_names), "price": price}),
)
general = st.builds(
    lambda scalars, inner: scalars | inner,
    _sometimes(
        bind_port=st.integers(0, 65535),
        num_retries=st.integers(0, 10),
        cooldown_time=st.floats(0, 1000),
        redis_password=_plain(texts),
        redis_ssl=st.booleans(),
        redis_ssl_cert_reqs=st.sampled_from(["required", "optional", "none"]),
        cache=st.booleans(),
        client_auth=st.sampled_from(["auto", "required", "off"]),
        **timeouts,
    ),
    st.fixed_dictionaries(
        {},
        optional={"cache_params": _sometimes(ttl=st.integers(1, 10**6), host=_plain(names), namespace=_plain(names))},
    ),
)


@st.composite
def configurations(draw):
    """Groups fall back only to later ones, so that there is no loop; names are made unique."""
    group_names = draw(st.lists(_plain(names), unique=True, max_size=4))
    taken = set()
    groups = []
    for index, name in enumerate(group_names):
        models = draw(st.lists(endpoints, min_size=1, max_size=3))
        for model in models:
            if model.get("name") in taken:
                model.pop("name", None)
            taken.add(model.get("name"))
        later = group_names[index + 1 :]
        fallbacks = draw(st.lists(st.sampled_from(later), unique=True)) if later else []
        scalars = draw(
            _sometimes(
                strategy=st.sampled_from(["weighted_round_robin", "least_busy", "lowest_latency"]),
                cache=st.booleans(),
                cache_ttl=st.integers(1, 1000),
                cooldown_time=st.floats(0, 100),
                **timeouts,
            )
        )
        groups.append({"model_group": name, "fallbacks": fallbacks, "models": models, **scalars})
    made = Configuration.model_validate({"model_groups": groups, "general_settings": draw(general)})
    assert problems(made) == []
    return made
