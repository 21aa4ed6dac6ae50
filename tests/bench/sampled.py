"""`python -m tests.bench.sampled FILE ARGUMENTS`: manage.py, sampled from SIGUSR2 on; FILE says at the end where it was.

Samples are taken every few milliseconds of CPU time, between two bytecodes: time in C counts for the line that called
it. What it costs is in the figures of such a run.
"""

import atexit
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from tests.e2e.processes import PROJECT

_INTERVAL_S = 0.001  # the kernel makes it its own tick, often 4 ms
_MOST_LINES = 40


class Samples:
    """Where the process was, by line and by function with all that it called."""

    def __init__(self) -> None:
        self._lines: Counter[str] = Counter()
        self._functions: Counter[str] = Counter()

    def begin(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL_S, _INTERVAL_S)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._lines[f"{_function(frame)}:{frame.f_lineno}"] += 1
        functions = set()
        while frame is not None:
            functions.add(_function(frame))
            frame = frame.f_back
        self._functions.update(functions)

    def text(self) -> str:
        total = self._lines.total()
        lines = [f"{total} samples"]
        for title, counts in (("at this line", self._lines), ("in this function or what it called", self._functions)):
            lines += ["", f"share {title}"]
            told = [(count, where) for where, count in counts.most_common() if count < total]  # all: what started it
            lines += [f"{count / total:6.1%} {where}" for count, where in told[:_MOST_LINES]]
        return "\n".join(lines) + "\n"


def _function(frame: FrameType) -> str:
    file = frame.f_code.co_filename.rpartition("site-packages/")[2].removeprefix(f"{PROJECT}/")
    return f"{file} {frame.f_code.co_qualname}"


def main() -> None:
    file = Path(sys.argv[1])
    samples = Samples()
    signal.signal(signal.SIGUSR2, samples.begin)
    atexit.register(lambda: file.write_text(samples.text()))
    program = str(PROJECT / "manage.py")
    sys.argv = [program, *sys.argv[2:]]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
