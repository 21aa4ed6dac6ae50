"""Log lines: JSON where a machine reads them, coloured text on a terminal. Both libraries' and our own go one way."""

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

from django.core.exceptions import RequestAborted

from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.spared_imports import spared

with spared("twisted", "rich", "greenlet"):  # for loggers and renderers that we do not use; 7 MB in every worker
    import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]

# Chatty at INFO, and they know nothing that our own lines do not say better.
_QUIET = ("uvicorn", "daphne", "asyncio", "httpx", "httpcore", "django.channels.server", "django.server")

# At DEBUG they say every header with which a websocket is opened, so the cookie of who is signed in; and all variables
# of a page, forms and their tokens too.
_TOO_OPEN = ("uvicorn.error", "django.template")


class ClientLeft(logging.Filter):
    """Drops what asyncio says when a client leaves just as Django's answer ends: Django's watcher then raises into a
    task that nobody awaits. Nothing went wrong."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name == "asyncio" and record.exc_info and record.exc_info[0] is RequestAborted)


class Lines(logging.StreamHandler[TextIO]):
    """Writes to standard error. A call with the wrong arguments is reported without them: they may hold a key."""

    def handleError(self, record: logging.LogRecord) -> None:
        kind = type(sys.exception()).__name__
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            self.stream.write(f"a log line of {record.name} could not be written: {kind}\n")


def print_uncaught(error: BaseException | None) -> None:
    """What nobody catches goes past all loggers: Python prints it, and quotes whatever its message says."""
    if error is not None:
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(known_secrets.struck_out(text))


def _uncaught_in_thread(happened: threading.ExceptHookArgs) -> None:
    if happened.exc_type is not SystemExit:
        print_uncaught(happened.exc_value)


def configure_structlog() -> None:
    """Sends `structlog.get_logger()` through the standard library's logging, which `logging_settings` describes."""
    sys.excepthook = lambda _kind, error, _traceback: print_uncaught(error)
    threading.excepthook = _uncaught_in_thread
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_settings(level: str, *, terminal: bool | None = None) -> dict[str, Any]:
    """Django's LOGGING. `terminal`: readable text instead of JSON; default: whether standard error is a terminal."""
    if terminal is None:
        terminal = sys.stderr.isatty()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *_rendering(terminal),
                ],
            }
        },
        "filters": {"client_left": {"()": "llmproxy_site.logging.ClientLeft"}},
        "handlers": {
            "stderr": {"class": "llmproxy_site.logging.Lines", "formatter": "lines", "filters": ["client_left"]}
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": _loggers(level),
    }


def set_level(level: str) -> None:
    """Changes the level of a process that has set up logging already."""
    logging.getLogger().setLevel(level)
    for name, settings in _loggers(level).items():
        logging.getLogger(name).setLevel(settings["level"])


def _loggers(level: str) -> dict[str, Any]:
    # Django's own handlers would mail, and print a second time.
    loggers = {"django": {"handlers": [], "level": level, "propagate": True}, **_quiet(level)}
    # uvicorn makes a line for every request if anything could hear it, even where the level drops it: 8 us each.
    loggers["uvicorn.access"] = {"handlers": [], "level": "WARNING", "propagate": False}
    for name in _TOO_OPEN:
        loggers[name] = {"handlers": [], "level": "INFO" if level == "DEBUG" else "NOTSET", "propagate": True}
    return loggers


def _quiet(level: str) -> dict[str, Any]:
    loudest = "WARNING" if level == "INFO" else level
    return {name: {"handlers": [], "level": loudest, "propagate": True} for name in _QUIET}


def _rendering(terminal: bool) -> Iterable[Any]:
    # Tracebacks become text here, never with local variables, which hold keys; then everything is looked through.
    yield structlog.processors.format_exc_info
    yield known_secrets
    if terminal:
        yield structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        yield structlog.processors.JSONRenderer()
