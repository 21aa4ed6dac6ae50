"""The SDK raises its own errors, and its retries are never multiplied by ours."""

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.conftest import Site
from tests.e2e.processes import Process

ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(server: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="unused", max_retries=3, timeout=20) as client:
        yield client


def attempts_of(client: openai.OpenAI, site: Site, model: str, error: type[openai.OpenAIError]) -> tuple[int, object]:
    """How often the upstream was asked for one call of the SDK, and the error that the SDK raised."""
    before = len(site.asked(model))
    with pytest.raises(error) as raised:
        client.chat.completions.create(model=model, messages=ASKED)
    return len(site.asked(model)) - before, raised.value


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="no-such-model", messages=ASKED)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_an_unknown_model_is_not_retrieved(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_an_unknown_response(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")


def test_an_unknown_previous_response(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="gpt-4o-mini", input="x", previous_response_id="resp_unknown")
    assert raised.value.code == "previous_response_not_found"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("bad-request", openai.BadRequestError),
        ("too-long", openai.BadRequestError),
        ("unprocessable", openai.UnprocessableEntityError),
    ],
)
def test_the_clients_mistake(model: str, error: type[openai.OpenAIError], client: openai.OpenAI, site: Site) -> None:
    assert attempts_of(client, site, model, error)[0] == 1


def test_the_upstreams_words_reach_the_client(client: openai.OpenAI, site: Site) -> None:
    _, error = attempts_of(client, site, "bad-request", openai.BadRequestError)
    assert "the upstream's own words" in str(error)
    assert error.code == "bad_thing"  # type: ignore[attr-defined]


def test_a_rate_limit(client: openai.OpenAI, site: Site) -> None:
    attempts, error = attempts_of(client, site, "rate-limited", openai.RateLimitError)
    assert attempts <= 1
    assert int(error.response.headers["retry-after"]) > 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", ["broken", "reset"])
def test_a_broken_upstream_is_asked_as_often_as_configured(model: str, client: openai.OpenAI, site: Site) -> None:
    attempts, error = attempts_of(client, site, model, openai.InternalServerError)
    # 1 + num_retries, and one more where a pooled connection was found closed, which is no attempt.
    assert attempts <= (4 if model == "reset" else 3)
    assert error.response.headers["x-should-retry"] == "false"  # type: ignore[attr-defined]


def test_bad_credentials_of_the_endpoint_are_not_the_clients(client: openai.OpenAI, site: Site) -> None:
    _, error = attempts_of(client, site, "unauthorized", openai.InternalServerError)
    assert error.status_code == 502  # type: ignore[attr-defined]


def test_a_cut_stream_raises(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="cut-stream", messages=ASKED, stream=True)
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert raised.value.code == "upstream_stream_interrupted"
