"""Django's page about a failure shows where it happened, and nothing that could be a key."""

import sys

import pytest
from django.test import RequestFactory
from django.views.debug import technical_500_response

from llmproxy_site.log_redaction import known_secrets

KEY = "key-only-for-the-error-page-test"


def report(accept: str, settings) -> str:
    settings.DEBUG = True
    settings.SOME_API = {"plain": KEY}
    request = RequestFactory().post(f"/admin/?q={KEY}", {"field": KEY}, HTTP_COOKIE=f"c={KEY}", HTTP_X_NOTE=KEY,
                                    HTTP_ACCEPT=accept)  # fmt: skip
    known_secrets.learn([KEY])
    try:
        fail([KEY])
    except ValueError:
        return technical_500_response(request, *sys.exc_info()).content.decode()
    raise AssertionError("it did not fail")


def fail(local: list[str]) -> None:
    raise ValueError(f"not usable: {local[0]}")


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_the_page_for_a_failure_shows_no_key(accept, settings):
    page = report(accept, settings)
    assert "ValueError" in page and "test_error_reports.py" in page
    assert KEY not in page


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_the_page_for_a_failure_shows_neither_settings_nor_variables(accept, settings):
    page = report(accept, settings)
    for name in ("ROOT_URLCONF", "DATABASES", "SERVER_NAME", "REMOTE_ADDR"):
        assert name not in page
    assert "<td>local</td>" not in page
