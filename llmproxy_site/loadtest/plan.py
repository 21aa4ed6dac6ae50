"""What a load test sends, to whom, how fast and how long. Pure; refuses what cannot be meant, with the remedy."""

import ipaddress
import json
from dataclasses import dataclass

from pydantic import ValidationError

from routing.config.schema import Params
from routing.config.wording import problems_of
from routing.upstream.providers import build_provider
from routing.upstream.transport import Target

MOST_CONNECTIONS = 1000  # a process may usually have 1,024 open files
MOST_REQUESTS = 1_000_000
MOST_SECONDS = 3600.0
MOST_A_SECOND = 100_000.0
_OPERATION = "chat/completions"
_ASKED = "Answer with the one word: ok"


class PlanProblem(ValueError):
    """The URL or the key cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """requests or seconds is None: the other one ends the test. rate: requests a second, None: as fast as it goes."""

    target: Target
    model: str
    stream: bool
    connections: int
    requests: int | None
    seconds: float | None
    rate: float | None

    @property
    def loopback(self) -> bool:
        return is_loopback(self.target.origin.host)

    @property
    def amount(self) -> str:
        """In words."""
        kind = "streams" if self.stream else "requests"
        if self.requests is not None:
            return f"{self.requests:,} {kind}"
        many = f"up to {self.rate:g} {kind} a second" if self.rate else f"as many {kind} as are answered"
        return f"{many}, for {self.seconds:g} s"

    def body(self, run: str, number: int) -> bytes:
        """No two requests are equal, or a cache would answer them."""
        message = {"role": "user", "content": f"{_ASKED} (load test {run}, {number})"}
        asked = {"model": self.model, "messages": [message], **({"stream": True} if self.stream else {})}
        return json.dumps(asked).encode()


def target_of(url: str, model: str, key: str | None) -> Target:
    """url: as clients are given it, or that of chat completions. Raises PlanProblem."""
    base = url.rstrip("/").removesuffix(f"/{_OPERATION}")
    try:
        params = Params.model_validate({"base_url": base, "api_key": key or None})
        return build_provider(params, model, "loadtest").target("POST", _OPERATION)
    except ValidationError as error:
        told = [f"{'the key' if problem.place == ('api_key',) else 'the URL'} {problem.message}"
                for problem in problems_of(error)]  # fmt: skip
        raise PlanProblem("; ".join(told)) from None
    except ValueError as error:
        raise PlanProblem(str(error)) from None


def is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
