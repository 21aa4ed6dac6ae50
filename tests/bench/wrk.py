"""The load generator wrk, where it is installed: JSON only, and it sees the status of every answer but no bodies."""

import json
import resource
import shutil
import subprocess
from pathlib import Path

from tests.bench.accounts import cpu_seconds, machine_seconds
from tests.bench.figures import Round
from tests.bench.load import Order
from tests.bench.machine import pinned

_SCRIPT = """
local file = assert(io.open("%(body)s", "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
%(headers)s
%(numbering)s
done = function(summary, latency)
  local wrong = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "us": %%d, "p50": %%f, "p99": %%f, "connect": %%d, "read": %%d, "write": %%d, ' ..
    '"status": %%d, "timeout": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    wrong.connect, wrong.read, wrong.write, wrong.status, wrong.timeout))
end
"""

_NUMBERING = """
local number, numbers, before, behind = %(first)d - 1, %(numbers)d, wrk.body:match("^(.-)bench%%-000000000(.*)$")
request = function()
  number = number + 1
  if numbers > 0 then number = number %% numbers end
  return wrk.format(nil, nil, nil, before .. string.format("bench-%%09d", number) .. behind)
end
"""


def installed() -> str | None:
    return shutil.which("wrk")


def load(program: str, order: Order, directory: Path) -> Round:
    """Runs the order, less the comparison of bodies. wrk knows whole seconds only and no warm-up: connecting counts."""
    head, _, body = Path(order.request_file).read_bytes().partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    (directory / "body").write_bytes(body)
    headers = (field.split(": ", 1) for field in fields if not field.startswith(("host", "content-length")))
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers)
    script = directory / "post.lua"
    numbering = ""
    if order.numbers_from is not None:
        numbering = _NUMBERING % {"first": order.numbers_from, "numbers": order.numbers}
    script.write_text(_SCRIPT % {"body": directory / "body", "headers": lines, "numbering": numbering})
    url = f"http://127.0.0.1:{order.port}{line.split()[1]}"
    command = [program, "-t1", f"-c{order.connections}", f"-d{max(1, round(order.seconds))}s", "-s", str(script), url]
    before = _cpu_now(order)
    with pinned(order.cores):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=order.seconds + 30)
    cpu, load_cpu, machine = (then - now for then, now in zip(_cpu_now(order), before, strict=True))
    told = json.loads(done.stdout.strip().splitlines()[-1])
    failures = {f"wrk: {name}": told[name] for name in ("connect", "read", "write", "status", "timeout") if told[name]}
    p50, p99 = told["p50"] / 1000, told["p99"] / 1000
    asked = told["requests"] + order.connections
    return Round(told["requests"], 0, 0, told["us"] / 1e6, p50, p99, cpu, load_cpu, machine, failures, asked)


def _cpu_now(order: Order) -> tuple[float, float, float]:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    load = cpu_seconds(order.load_pids) + ended.ru_utime + ended.ru_stime
    return cpu_seconds(order.pids), load, machine_seconds()
