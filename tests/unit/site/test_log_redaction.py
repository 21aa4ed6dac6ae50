"""No line shows a secret: neither a known one, in whatever encoding, nor what looks like one."""

import io
import json
import logging
import subprocess
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from llmproxy_site.environment import PROJECT
from llmproxy_site.log_redaction import KnownSecrets
from llmproxy_site.logging import Lines, logging_settings
from tests.unit.test_redaction import ENCODINGS, SECRETS


def knowing(*secrets: str) -> KnownSecrets:
    known = KnownSecrets()
    known.learn(secrets)
    return known


def line(known: KnownSecrets, record_to, *, terminal: bool) -> str:
    """What standard error gets of the call."""
    formatter = dict(logging_settings("INFO", terminal=terminal)["formatters"]["lines"])
    formatter["processors"] = [known if isinstance(one, KnownSecrets) else one for one in formatter["processors"]]
    output = io.StringIO()
    handler = Lines(output)
    handler.setFormatter(formatter.pop("()")(**formatter))
    logger = logging.Logger("some.library")
    logger.addHandler(handler)
    record_to(logger)
    return output.getvalue()


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "JSON"])
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@given(secret=SECRETS)
def test_a_known_secret_is_in_no_line_in_any_encoding(encode, terminal, secret):
    quoted = encode(secret)
    text = line(knowing(secret), lambda log: log.warning("before %s after", quoted), terminal=terminal)
    assert "[redacted]" in text
    assert quoted not in text
    assert json.dumps(quoted)[1:-1] not in text


@given(secret=SECRETS, around=st.text(max_size=20))
def test_a_line_stays_json(secret, around):
    known = knowing(secret)
    text = line(known, lambda log: log.warning("%s%s%s", around, secret, around), terminal=False)
    assert secret not in json.loads(text)["event"]


@given(secret=SECRETS)
def test_a_secret_deep_in_a_value_is_struck_out(secret):
    class Thing:
        def __repr__(self) -> str:
            return f"<{secret}>"

    event = {"event": "e", "a": [{"b": (secret, {secret: 1})}], "c": Thing(), "d": secret.encode(), "n": 3, "x": None}
    cleaned = knowing(secret)(None, "info", event)
    assert secret not in str(cleaned) and repr(secret)[1:-1] not in str(cleaned)
    assert (cleaned["n"], cleaned["x"]) == (3, None)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "JSON"])
def test_a_traceback_quotes_neither_the_message_nor_local_variables(terminal):
    def fail(log: logging.Logger) -> None:
        local = "sec" + "ret-in-a-variable"
        try:
            raise ValueError(f"refused: {'sec' + 'ret-in-a-message'} {len(local)}")
        except ValueError:
            log.exception("failed")

    text = line(knowing("secret-in-a-message"), fail, terminal=terminal)
    assert "ValueError: refused: [redacted]" in text
    assert "secret-in-a" not in text


LOOK_LIKE_SECRETS = {
    "key sk-abcdefgh1234 is bad": "key [redacted] is bad",
    "sk-proj-AbC_dEf-0123": "[redacted]",
    r"first\nsk-abcdefgh1234": r"first\n[redacted]",
    "Authorization: Bearer abc.DEF-123456": "Authorization: Bearer [redacted]",
    "basic dXNlcjpwYXNzd29yZA==": "basic [redacted]",
    "redis://user:pa%40ss@host:6379/0": "redis://[redacted]@host:6379/0",
    "postgres://token@db/x": "postgres://[redacted]@db/x",
    "GET http://host/path?api-key=1&b=2 failed": "GET http://host/path?[redacted] failed",
    'in "/v1/models?key=x" there': 'in "/v1/models?[redacted]" there',
    "host/?token": "host/?[redacted]",
}


@pytest.mark.parametrize("text", LOOK_LIKE_SECRETS)
def test_what_looks_like_a_secret_is_struck_out(text):
    assert KnownSecrets().struck_out(text) == LOOK_LIKE_SECRETS[text]


@pytest.mark.parametrize(
    "text",
    ["a task-force-of-many met", "is it? yes", "what?", "basic authentication", "bearer of news", "http://host/a@b",
     "gpt-4o-mini → azure-east", "user@host.example", "[redacted]"],
)  # fmt: skip
def test_ordinary_words_stay(text):
    assert KnownSecrets().struck_out(text) == text


def test_a_long_line_takes_no_long_time():
    """Linear: a second would be forty thousand times what it takes."""
    for piece in ("/", "a", "://", "bearer ", "sk-", "?", "@", "\\"):
        KnownSecrets().struck_out(piece * (200_000 // len(piece)))


def test_what_was_learned_is_not_forgotten():
    known = knowing("the-old-key-123")
    known.learn(["the-new-key-456"])
    assert known.struck_out("the-old-key-123 the-new-key-456") == "[redacted] [redacted]"


def test_a_call_with_the_wrong_arguments_is_reported_without_them(capsys):
    text = line(KnownSecrets(), lambda log: log.warning("%d tries", "hunter2-is-my-key"), terminal=False)
    assert "some.library" in text
    assert "hunter2" not in text + capsys.readouterr().err


_UNCAUGHT = """
import sys, threading
from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.logging import configure_structlog
configure_structlog()
known_secrets.learn(["the-key-" + "of-the-test"])
def fail():
    raise ValueError("refused: the-key-" + "of-the-test")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_what_nobody_catches_is_printed_without_secrets():
    done = subprocess.run([sys.executable, "-c", _UNCAUGHT], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: refused: [redacted]") == 2
    assert "the-key-of-the-test" not in done.stderr


def test_our_own_loggers_go_the_same_way():
    """structlog hands events over to the formatter, which holds the processor."""
    assert structlog.stdlib.ProcessorFormatter.wrap_for_formatter in structlog.get_config()["processors"]
    assert any(isinstance(one, KnownSecrets) for one in logging_settings("INFO")["formatters"]["lines"]["processors"])
