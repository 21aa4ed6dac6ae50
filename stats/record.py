"""What is kept of one request: who asked what, which endpoints were tried with what result, what it took and cost.

Never a body, a key, a header or a URL. Made once per request when it has ended, and not changed afterwards.
"""

import msgspec


class AttemptRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One attempt at one endpoint; in the database an array with the fields in this order."""

    endpoint: str  # its name
    endpoint_id: str
    outcome: str  # success | failure | rejected | cancelled
    cause: str  # what went wrong, as a class and a status; empty: nothing
    status: int  # of the upstream's answer; 0: there was none
    began_ms: float  # after the request's start
    duration_ms: float


# `gc=False`: a record holds no reference to anything that could refer back to it, so the collector need not look.
class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """One request of a client.

    Names of groups and endpoints come from the configuration and from nowhere else: numbers are kept for each.
    """

    request_id: str
    at: float  # Unix time of the request's start
    duration_ms: float
    operation: str  # "chat/completions", …
    outcome: str  # success | failure | rejected | cancelled
    status: int = 0  # sent to the client; 0: it left before
    error: str = ""  # code of the error that the client got
    stream: bool = False
    key: str = ""  # the client key's name
    model_group: str = ""  # empty: the request named none that exists
    revision: int = 0

    cache: str = "bypass"  # hit | miss | bypass
    cache_detail: str = ""  # of a hit: which tier had it; of a bypass: why

    endpoint: str = ""  # whose answer it is, also of a hit
    endpoint_id: str = ""
    attempts: list[AttemptRecord] = []

    ttft_ms: float | None = None  # from the request's start to the first event of a stream
    overhead_ms: float | None = None  # not spent on attempts

    # As the upstream counted them; None: it has not said. Those of a hit were not used again.
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None  # among input_tokens
    reasoning_tokens: int | None = None  # among output_tokens
    partial: bool = False  # the client left in the middle of the stream: there may have been more
    # Billionths of a US dollar: a small embedding costs less than a millionth. None: unknown, which is not 0.
    cost_nano_usd: int | None = None  # 0 where no upstream was asked, or none has done any work
    saved_nano_usd: int | None = None  # what a hit would have cost; None also where it is none

    @property
    def ended_at(self) -> float:
        """Unix time."""
        return self.at + self.duration_ms / 1000

    @property
    def troubled(self) -> bool:
        """The request, or one of its attempts, failed."""
        return self.outcome == "failure" or any(attempt.outcome == "failure" for attempt in self.attempts)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[AttemptRecord])


def attempts_as_json(attempts: list[AttemptRecord]) -> str:
    return _encoder.encode(attempts).decode()


def attempts_from_json(text: str) -> list[AttemptRecord]:
    """The inverse. Raises msgspec.DecodeError."""
    return _decoder.decode(text)
