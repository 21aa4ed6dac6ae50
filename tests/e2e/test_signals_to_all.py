"""A signal to every process at once, as systemd's `KillMode=control-group` and `docker stop` with an init send it."""

import os
import signal

from tests.e2e.test_serve import clients, in_flight, started, text, workers_of

__all__ = ["clients", "started", "text"]


def test_sigterm_to_supervisor_and_workers_together_cuts_no_stream(started, clients):
    process = started(2)
    futures = in_flight(process, clients)
    workers = workers_of(process)
    assert len(workers) == 2
    for pid in (*workers, process.pid):
        os.kill(pid, signal.SIGTERM)
    answers = [future.result() for future in futures]
    assert all(answer.rstrip().endswith(b"[DONE]") for answer in answers[::2])
    assert process._process.wait(5) == 0
