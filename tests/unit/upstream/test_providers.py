"""The exact URL and credentials of every provider style of the configuration."""

from typing import Any

import pytest

from routing.config.schema import Params
from routing.upstream.providers import Provider, build_provider, detect_kind, tells_usage

DATED = "2024-10-21"
DEPLOYED = "/openai/deployments/gpt%204o"


def provider(base_url: str, model: str = "gpt 4o", **params: Any) -> Provider:
    return build_provider(Params.model_validate({"base_url": base_url, "api_key": "the-key"} | params), model)


def path(made: Provider, operation: str = "chat/completions", query: str = "", method: str = "POST") -> str:
    return made.target(method, operation, query).path


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com", "/v1"),
        ("https://api.openai.com/", "/v1"),
        ("https://api.openai.com/v1", "/v1"),
        ("https://api.openai.com/v1/", "/v1"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "/v1beta/openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "/v1beta/openai"),
        ("https://ark.example.com/api/v3", "/api/v3"),
        ("http://127.0.0.1:8000/v1", "/v1"),
        ("http://host/a%20b/v1", "/a%20b/v1"),
    ],
)
@pytest.mark.parametrize("operation", ["chat/completions", "responses", "embeddings", "responses/resp_1/cancel"])
def test_compatible_upstreams(base_url, expected, operation):
    target = provider(base_url).target("POST", operation)
    assert target.path == f"{expected}/{operation}"
    assert dict(target.headers)[b"authorization"] == b"Bearer the-key"
    assert b"api-key" not in dict(target.headers)


AZURE = [
    # base_url, api_version, chat, responses
    ("https://x.openai.azure.com", DATED, f"{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/openai/responses?api-version={DATED}"),
    ("https://x.openai.azure.com", "2025-04-01-preview", f"{DEPLOYED}/chat/completions?api-version=2025-04-01-preview",
     "/openai/responses?api-version=2025-04-01-preview"),
    ("https://x.openai.azure.com/", DATED, f"{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/openai/responses?api-version={DATED}"),
    ("https://x.openai.azure.com/openai", DATED, f"{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/openai/responses?api-version={DATED}"),
    ("https://x.openai.azure.com/openai/v1", DATED, f"{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/openai/responses?api-version={DATED}"),
    ("https://x.openai.azure.com/openai/v1/", DATED, f"{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/openai/responses?api-version={DATED}"),
    ("https://gate.azure.com/team/openai", DATED, f"/team{DEPLOYED}/chat/completions?api-version={DATED}",
     f"/team/openai/responses?api-version={DATED}"),
    ("https://x.services.ai.azure.com", "preview", "/openai/v1/chat/completions?api-version=preview",
     "/openai/v1/responses?api-version=preview"),
    ("https://x.openai.azure.com/openai/v1", "latest", "/openai/v1/chat/completions?api-version=latest",
     "/openai/v1/responses?api-version=latest"),
    ("https://x.openai.azure.com", "v1", "/openai/v1/chat/completions", "/openai/v1/responses"),
    ("https://x.openai.azure.com", None, "/openai/v1/chat/completions", "/openai/v1/responses"),
    ("https://x.openai.azure.com/openai", None, "/openai/v1/chat/completions", "/openai/v1/responses"),
    ("https://x.openai.azure.com/openai/v1/", None, "/openai/v1/chat/completions", "/openai/v1/responses"),
    ("https://x.openai.azure.com/openai/deployments/mine", DATED,
     f"/openai/deployments/mine/chat/completions?api-version={DATED}", f"/openai/responses?api-version={DATED}"),
    ("https://x.openai.azure.com/openai/deployments/mine/", DATED,
     f"/openai/deployments/mine/chat/completions?api-version={DATED}", f"/openai/responses?api-version={DATED}"),
]  # fmt: skip


@pytest.mark.parametrize(("base_url", "version", "chat", "responses"), AZURE)
@pytest.mark.parametrize("place", ["api_version", "default_query"])
def test_azure(base_url, version, chat, responses, place):
    where = (
        {"api_version": version}
        if place == "api_version"
        else {"default_query": {"api-version": version} if version else {}}
    )
    made = provider(base_url, **where)
    assert path(made) == chat
    assert path(made, "embeddings") == chat.replace("chat/completions", "embeddings")
    assert path(made, "completions") == chat.replace("chat/completions", "completions")
    assert path(made, "responses") == responses
    assert path(made, "responses/resp_1/cancel") == responses.replace("/responses", "/responses/resp_1/cancel")
    headers = dict(made.target("POST", "responses").headers)
    assert headers[b"api-key"] == b"the-key"
    assert b"authorization" not in headers


@pytest.mark.parametrize(
    ("base_url", "setting", "kind"),
    [
        ("https://x.openai.azure.com", "auto", "azure"),
        ("https://X.OpenAI.Azure.Com", "auto", "azure"),
        ("https://x.cognitiveservices.azure.com/openai", "auto", "azure"),
        ("https://azure.com.evil.example", "auto", "openai"),
        ("https://notazure.com", "auto", "openai"),
        ("https://gateway.example/azure.com", "auto", "openai"),
        ("https://gateway.example", "azure", "azure"),
        ("https://x.openai.azure.com", "openai", "openai"),
    ],
)
def test_which_provider_it_is(base_url, setting, kind):
    assert detect_kind(Params(base_url=base_url, provider=setting)) == kind
    assert provider(base_url, provider=setting).kind == kind


def test_azure_behind_another_host():
    made = provider("https://gateway.example", provider="azure", api_version=DATED)
    assert path(made) == f"{DEPLOYED}/chat/completions?api-version={DATED}"


def test_the_setting_beats_the_query_of_the_same_name():
    made = provider("https://x.openai.azure.com", api_version=DATED, default_query={"api-version": "2023-05-15"})
    assert path(made).endswith(f"?api-version={DATED}")


def test_a_default_query_is_sent_with_every_request_and_the_clients_after_it():
    made = provider("https://h.example/v1", default_query={"a": "1 2", "b": "ü&"})
    assert path(made) == "/v1/chat/completions?a=1+2&b=%C3%BC%26"
    assert (
        path(made, "responses/r", "include=x&stream=true", "GET")
        == "/v1/responses/r?a=1+2&b=%C3%BC%26&include=x&stream=true"
    )


@pytest.mark.parametrize("query", ["api-version=2020-01-01", "api%2Dversion=x", "x=1&api-version=x&y", "api-version"])
def test_the_clients_query_does_not_change_the_endpoints_own(query):
    made = provider("https://x.openai.azure.com", api_version=DATED)
    sent = path(made, "responses/r", query, "GET").partition("?")[2].split("&")
    assert sent[0] == f"api-version={DATED}"
    assert not any("version" in part for part in sent[1:])


@pytest.mark.parametrize("name", ["a/b", "a b", "ü", "a?b#c", "..", "a%2Fb"])
def test_odd_deployment_names_stay_one_segment(name):
    made = provider("https://x.openai.azure.com", name, api_version=DATED)
    segment = path(made).removeprefix("/openai/deployments/").removesuffix(f"/chat/completions?api-version={DATED}")
    assert not set("/?# ") & set(segment)
    assert segment.isascii()


def test_headers_of_the_endpoint():
    headers = dict(provider("https://h.example", default_headers={"X-Team": "blue"}).headers)
    assert headers == {
        b"authorization": b"Bearer the-key", b"x-team": b"blue", b"accept-encoding": b"identity", b"user-agent": b"llmproxy",
    }  # fmt: skip


def test_an_authorization_of_its_own_is_kept():
    headers = provider("https://h.example", default_headers={"Authorization": "Basic abc"}).headers
    assert [value for name, value in headers if name == b"authorization"] == [b"Basic abc"]


def test_without_a_key_there_are_no_credentials():
    assert not {b"authorization", b"api-key"} & dict(provider("https://h.example", api_key=None).headers).keys()


def test_a_body_has_a_content_type_and_its_absence_has_none():
    made = provider("https://h.example")
    assert dict(made.target("POST", "chat/completions").headers)[b"content-type"] == b"application/json"
    assert b"content-type" not in dict(made.target("GET", "responses/r").headers)


@pytest.mark.parametrize(
    ("base_url", "authority"),
    [
        ("https://h.example:8443/v1", "h.example:8443"),
        ("https://h.example:443/v1", "h.example"),
        ("http://h.example:80", "h.example"),
        ("http://[::1]:9000/v1", "[::1]:9000"),
        ("http://h.example", "h.example"),
    ],
)
def test_the_host_header(base_url, authority):
    assert provider(base_url).origin.authority == authority


AZURE = "https://east.openai.azure.com"


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({}, True),
        ({"base_url": "https://API.openai.com./v1"}, True),
        ({"base_url": "https://api.openai.com.example/v1"}, False),
        ({"base_url": "http://localhost:8000"}, False),
        ({"base_url": "http://localhost:8000", "provider": "openai"}, False),
        ({"base_url": AZURE}, True),
        ({"base_url": AZURE, "api_version": "v1"}, True),
        ({"base_url": AZURE, "api_version": "preview"}, True),
        ({"base_url": AZURE, "api_version": "2024-09-01-preview"}, True),
        ({"base_url": AZURE, "api_version": "2024-10-21"}, True),
        ({"base_url": AZURE, "api_version": "2024-08-01-preview"}, False),
        ({"base_url": AZURE, "default_query": {"api-version": "2024-06-01"}}, False),
        ({"base_url": f"{AZURE}/openai/deployments/x"}, False),
        ({"base_url": f"{AZURE}/openai/deployments/x", "api_version": "2025-01-01-preview"}, True),
        ({"base_url": "https://gate.example", "provider": "azure", "api_version": "2024-10-21"}, True),
    ],
)
def test_who_is_known_to_tell_the_usage_of_streams(fields, known):
    assert tells_usage(Params.model_validate(fields)) is known
