"""`manage.py runserver` from a fresh checkout: ready by itself, with the embedded store, on loopback only."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.processes import Process, free_port, manage
from tests.e2e.test_serve import children


@pytest.fixture
def site(tmp_path: Path) -> Process:
    """With the autoreloader, as people run it."""
    port = free_port()
    return Process(tmp_path, ["runserver", f"127.0.0.1:{port}"], port)


def live(process: Process) -> bool:
    try:
        return process.get("/health/live")[0] == 200
    except OSError:
        return False


def test_it_migrates_makes_the_admin_and_keeps_a_store(site: Process):
    with site:
        site.wait_for(lambda: live(site), 40)
        assert "Admin user admin, password" in site.output()
        assert "unapplied migration" not in site.output()
        site.wait_for(lambda: site.get("/health")[1]["redis_connected"], 5)
        [store] = [pid for pid, command in children(site.pid).items() if "store.sock" in command]
        os.kill(store, signal.SIGKILL)
        site.wait_for(lambda: store not in children(site.pid), 3)
        site.wait_for(lambda: site.get("/health")[1]["redis_connected"], 3)


def test_requests_for_health_leave_no_line(site: Process):
    with site:
        site.wait_for(lambda: live(site), 40)
        site.get("/unknown")
        site.wait_for(lambda: "/unknown" in site.output())
        assert "/health/live" not in site.output()


def test_a_public_bind_is_refused(tmp_path):
    done = manage(tmp_path, "runserver", f"0.0.0.0:{free_port()}", "--noreload")
    assert done.returncode == 1
    assert "Refusing to listen on 0.0.0.0" in done.stderr
