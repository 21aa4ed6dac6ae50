"""The dashboard's websocket on both servers, and a drain while somebody looks on."""

import http.cookiejar
import json
import re
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.e2e.processes import Process, runserver, serve

PASSWORD = "a-password-for-the-socket"


def cookie_of_admin(process: Process) -> str:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with opener.open(f"{process.root}/admin/login/", timeout=20) as form:
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', form.read().decode())[1]
    sent = {"csrfmiddlewaretoken": token, "username": "admin", "password": PASSWORD, "next": "/health/live"}
    with opener.open(f"{process.root}/admin/login/", urllib.parse.urlencode(sent).encode(), timeout=20):
        return "; ".join(f"{one.name}={one.value}" for one in jar)


def socket_of(process: Process, cookie: str):
    url = process.root.replace("http", "ws") + "/admin/live/"
    return connect(url, origin=process.root, additional_headers={"cookie": cookie}, open_timeout=20)


@pytest.mark.parametrize("start", [serve, runserver])
def test_a_dashboard_is_told_and_does_not_keep_the_server_from_its_end(start, tmp_path):
    with start(tmp_path, json.dumps({"model_groups": []}), LLMPROXY_ADMIN_PASSWORD=PASSWORD) as process:
        process.wait_for(lambda: answers(process), 40)
        with pytest.raises(InvalidStatus, match="403"):
            socket_of(process, "")
        with socket_of(process, cookie_of_admin(process)) as socket:
            assert {name for _ in range(4) for name in json.loads(socket.recv(timeout=20))} == {"live", "past"}
            code = process.terminate()
            with pytest.raises(ConnectionClosed):
                while True:
                    socket.recv(timeout=20)
        assert code == 0 or start is runserver  # daphne knows no orderly end
        assert "Traceback" not in process.output(), process.output()


@pytest.mark.full
def test_ten_browsers_cost_at_most_two_percent_of_a_core(tmp_path):
    seconds = 15
    with serve(tmp_path, json.dumps({"model_groups": []}), workers=1, LLMPROXY_ADMIN_PASSWORD=PASSWORD) as process:
        process.wait_for(lambda: answers(process), 40)
        cookie = cookie_of_admin(process)
        unwatched = cpu_s_of(process, seconds)
        until = time.monotonic() + seconds + 5
        with ThreadPoolExecutor(10) as browsers:
            for _ in range(10):
                browsers.submit(look_on, process, cookie, until)
            threading.Event().wait(2)  # the first readings, and what is imported for them
            watched = cpu_s_of(process, seconds)

    assert watched - unwatched <= 0.02 * seconds


def look_on(process: Process, cookie: str, until: float) -> None:
    with socket_of(process, cookie) as socket:
        while time.monotonic() < until:
            socket.recv(timeout=20)


def cpu_s_of(process: Process, seconds: float) -> float:
    """CPU time of the serving process in the next seconds, from Linux's own account in nanoseconds."""
    threads = Path(f"/proc/{process.pid}/task")

    def spent() -> float:
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads.iterdir()) / 1e9

    before = spent()
    threading.Event().wait(seconds)
    used = spent() - before
    print(f"{100 * used / seconds:.2f} % of a core")
    return used


def answers(process: Process) -> bool:
    try:
        return process.get("/health/live")[0] == 200
    except OSError:
        return False
