import io
import json
import logging

import pytest
import structlog
from django.core.exceptions import RequestAborted

from llmproxy_site.logging import ClientLeft, logging_settings


def written(record_to, *, terminal: bool) -> str:
    formatter = logging_settings("INFO", terminal=terminal)["formatters"]["lines"]
    formatter = dict(formatter)
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter.pop("()")(**formatter))
    logger = logging.Logger("some.module")
    logger.addHandler(handler)
    record_to(logger)
    return output.getvalue()


def test_a_machine_reads_one_json_object_per_line():
    line = written(lambda logger: logger.warning("store unavailable: %s", "timeout"), terminal=False)
    read = json.loads(line)
    assert (read["event"], read["level"], read["logger"]) == ("store unavailable: timeout", "warning", "some.module")
    assert read["timestamp"].endswith("Z")
    assert line.count("\n") == 1


def test_a_terminal_shows_text():
    line = written(lambda logger: logger.warning("store unavailable"), terminal=True)
    assert "store unavailable" in line
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)


@pytest.mark.parametrize("terminal", [True, False])
def test_tracebacks_show_no_local_variables(terminal):
    def fail(logger: logging.Logger) -> None:
        api_key = "sk-canary"
        try:
            raise ValueError(len(api_key))
        except ValueError:
            logger.exception("failed")

    text = written(fail, terminal=terminal)
    assert "ValueError" in text
    assert "sk-canary" not in text.replace('api_key = "sk-canary"', "")


def test_our_own_loggers_go_through_the_standard_library():
    assert isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory)


@pytest.mark.parametrize(("error", "kept"), [(RequestAborted(), False), (ValueError(), True)])
def test_a_client_that_left_djangos_pages_leaves_no_traceback(error, kept):
    trouble = (type(error), error, None)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 1, "Task exception was never retrieved", (), trouble)
    assert ClientLeft().filter(record) is kept


def test_nobody_hears_uvicorns_access_lines():
    """Else uvicorn puts one together for every request."""
    settings = logging_settings("INFO")["loggers"]["uvicorn.access"]
    assert settings["handlers"] == [] and settings["propagate"] is False


@pytest.mark.parametrize("name", ["uvicorn.error", "django.template"])
def test_cookies_and_variables_of_pages_are_not_even_told_at_debug(name):
    assert logging_settings("DEBUG")["loggers"][name]["level"] == "INFO"
    assert logging_settings("ERROR")["loggers"][name]["level"] == "NOTSET"  # as loud as all others
