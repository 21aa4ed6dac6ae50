"""What the operating system says of processes: CPU time, memory, children, and how busy the rest of the machine is."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

LINUX = sys.platform == "linux"
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far of all threads of these processes; one that ended counts nothing."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    if not LINUX:
        return seconds_of_ps(_ps(pid, "time"))
    try:
        # clock_getcpuclockid(3) for another process: nanoseconds, where /proc counts in hundredths of a second.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    if not LINUX:
        return int(_ps(pid, "rss") or 0) * 1024
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    parents = _parents()
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def machine_seconds() -> float:
    """CPU seconds that the whole machine has worked since it started; 0 where nobody tells."""
    if not LINUX:
        return 0.0
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(int, _first_line("/proc/stat").split()[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / _TICK


def _first_line(file: str) -> str:
    return Path(file).read_text().partition("\n")[0]


def _parents() -> dict[int, int]:
    if not LINUX:
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    return found


def _ps(pid: int, field: str) -> str:
    return subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def seconds_of_ps(text: str) -> float:
    """Seconds of ps's [[days-]hours:]minutes:seconds."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":") if clock else ():
        seconds = seconds * 60 + float(part)
    return seconds + int(days or 0) * 86400
