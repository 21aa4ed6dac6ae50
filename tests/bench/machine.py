"""Which machine, which versions, which cores for whom."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench import nginx


@dataclass(frozen=True)
class Cores:
    """Where processes may run; empty: everywhere, because there is one core only or no way to say so here."""

    server: frozenset[int]
    mock: frozenset[int]
    load: frozenset[int]

    @property
    def load_side(self) -> int:
        """How many cores the load generator and the mock have."""
        return len(self.mock | self.load) or os.cpu_count() or 1

    def __str__(self) -> str:
        if not self.server:
            return "not pinned"
        if self.mock == self.load:
            return f"server on core {min(self.server)}, mock and load generator on core {min(self.load)}"
        return f"server on core {min(self.server)}, mock on core {min(self.mock)}, load on core {min(self.load)}"


def cores() -> Cores:
    """The last core for the server, because interrupts tend to go to the first; the mock has its own if there are 3."""
    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(ours) < 2:
        return Cores(frozenset(), frozenset(), frozenset())
    return Cores(frozenset(ours[-1:]), frozenset(ours[-2:-1]), frozenset(ours[:1]))


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """What this thread starts meanwhile stays on these cores, with all that it starts in turn; of none: anywhere."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> dict[str, str]:
    """What a reader of the figures wants to know of the machine."""
    found = {"machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"}
    found["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    for name in ("uvicorn", "uvloop", "httptools", "django"):
        found[name] = version(name) if name != "uvloop" or sys.platform != "win32" else "-"
    found["nginx"] = _said(nginx.installed(), "-v").rpartition("/")[2] or "not installed"
    found["wrk"] = " ".join(_said(shutil.which("wrk"), "-v").split()[1:2]) or "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    if not named and shutil.which("sysctl"):
        named = _said("sysctl", "-n", "machdep.cpu.brand_string")
    return named or platform.machine()


def _said(program: str | None, *arguments: str) -> str:
    """The first line of what it prints."""
    if program is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    return next(iter((done.stdout or done.stderr).splitlines()), "")
