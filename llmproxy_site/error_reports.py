"""What Django shows of a failure, should anybody switch DEBUG on: where it happened, and nothing it worked with.

No local variables, no settings, no headers, no form, because any of them may hold a key.
"""

from collections.abc import ItemsView
from typing import Any

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from llmproxy_site.log_redaction import known_secrets


class NothingButPlaces(SafeExceptionReporterFilter):
    """For DEFAULT_EXCEPTION_REPORTER_FILTER."""

    def get_safe_settings(self) -> dict[str, Any]:
        return {}

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {}

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: Any) -> ItemsView[str, Any]:
        return {}.items()


class StruckOutReporter(ExceptionReporter):
    """For DEFAULT_EXCEPTION_REPORTER. Messages of exceptions, and lines of code, may quote what they failed with."""

    def get_traceback_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_traceback_data()
        data.pop("request", None)  # its URL with the query, and who is logged in
        data.update(request_GET_items=[], request_FILES_items=[], request_COOKIES_items=[])
        return data

    def get_traceback_html(self) -> SafeString:
        return SafeString(known_secrets.known_struck_out(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(known_secrets.known_struck_out(super().get_traceback_text()))
