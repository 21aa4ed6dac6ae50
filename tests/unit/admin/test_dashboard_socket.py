"""Which pages may open the dashboard's socket, and what a browser that is slow is told."""

import pytest

from routing.admin.dashboard_readings import Watcher
from routing.admin.dashboard_socket import is_own_page

ALLOWED = ["localhost", "127.0.0.1", "gateway.example"]
TRUSTED = ["https://front.example", "https://*.lab.example"]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:4243", "http://localhost:4243"),
        ("gateway.example", "https://gateway.example"),
        ("localhost:4243", "https://front.example"),
        ("localhost:4243", "https://llm.lab.example"),
        ("localhost:4243", "https://lab.example"),
    ],
)
def test_a_page_of_ours_may(host, origin):
    assert is_own_page(host, origin, ALLOWED, TRUSTED)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:4243", ""),
        ("localhost:4243", "null"),
        ("localhost:4243", "http://localhost:3000"),
        ("localhost:4243", "http://127.0.0.1:4243"),
        ("localhost:4243", "http://evil.example"),
        ("localhost:4243", "https://front.example.evil.example"),
        ("localhost:4243", "http://llm.lab.example"),
        ("localhost:4243", "https://otherlab.example"),
        ("localhost:4243", "https://llm.lab.example.evil.example"),
        ("localhost:4243", "file://localhost:4243"),
        ("localhost:4243", "http://user@localhost:4243"),
        ("evil.example:4243", "http://evil.example:4243"),
        ("", "http://"),
        ("localhost:4243", "http://[::1"),
    ],
)
def test_a_page_of_others_may_not(host, origin):
    assert not is_own_page(host, origin, ALLOWED, TRUSTED)


async def test_what_a_slow_browser_has_not_taken_is_replaced():
    watcher = Watcher("15m")
    for text in ("old", "new"):
        watcher.tell("live", text)
    watcher.tell("15m", "sums")

    assert await watcher.next() == ["new", "sums"]
