"""A record in words and bars: what people read of it. Unknown is said to be unknown, and never 0."""

from dataclasses import dataclass

from django.db.models import QuerySet

from routing.config.publish import configuration_of
from routing.config.schema import Configuration, EndpointConfig, GroupConfig
from routing.config.wording import ConfigurationInvalid
from routing.models import Revision
from stats.models import RecordedRequest
from stats.record import AttemptRecord
from stats.record_search import RecordSearch

UNKNOWN = "unknown"
NOTHING = "-"
_NANO = 1_000_000_000
_THINNEST = 0.6  # percent of the width, so that a refused connection is seen
_TONES = {"success": "good", "failure": "bad", "rejected": "warn", "cancelled": "quiet", "uncounted": "warn"}
_CACHE = {
    ("hit", "process"): "Answered from the memory of the worker. No endpoint was asked.",
    ("hit", "store"): "Answered from the store. No endpoint was asked.",
    ("hit", "flight"): "The same request was being answered already, and this one got the same answer.",
    ("miss", ""): "No kept answer: endpoints were asked.",
    ("bypass", ""): "The cache was left alone.",
    ("bypass", "route"): "The cache was left alone: it keeps no answers of this route.",
    ("bypass", "ambiguous"): "The cache was left alone: the body can be read in more than one way.",
}


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return NOTHING
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.3g} s" if milliseconds < 100_000 else f"{milliseconds / 1000:,.0f} s"


def dollars(nano_usd: int | None) -> str:
    """Three digits of what is less than a dollar: small requests cost a millionth."""
    if nano_usd is None:
        return UNKNOWN
    usd = nano_usd / _NANO
    if not nano_usd:
        return "$0"
    if usd >= 1:
        return f"${usd:,.2f}"
    return "$" + f"{float(f'{usd:.3g}'):.10f}".rstrip("0")


def tokens(row: RecordedRequest, count: int | None) -> str:
    """Of a request for which nobody has worked there are none."""
    if count is not None:
        return f"{count:,}"
    return NOTHING if row.cost_nano_usd == 0 else UNKNOWN


def status_tone(row: RecordedRequest) -> str:
    return _TONES.get(row.outcome, "quiet")


def cache_told(row: RecordedRequest) -> str:
    known = _CACHE.get((row.cache, row.cache_detail))
    return known or f"The cache was left alone: {row.cache_detail.replace('_', ' ')}."


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt on the line of time; left and width in percent of the whole."""

    number: int
    attempt: AttemptRecord
    tone: str
    cause: str  # where it says more than the status
    why: str
    began: str
    took: str
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """first_event: percent; None: no stream, or none came."""

    bars: list[Bar]
    whole: str
    first_event: float | None


def timeline(row: RecordedRequest) -> Timeline:
    trail = row.trail
    whole = max([row.duration_ms, *(attempt.began_ms + attempt.duration_ms for attempt in trail), 0.001])
    bars = []
    before: AttemptRecord | None = None
    for number, attempt in enumerate(trail, 1):
        left = min(max(100 * attempt.began_ms / whole, 0), 100 - _THINNEST)
        width = min(max(100 * attempt.duration_ms / whole, _THINNEST), 100 - left)
        bars.append(
            Bar(
                number,
                attempt,
                _TONES.get(attempt.outcome, "quiet"),
                "" if attempt.cause == f"status {attempt.status}" else attempt.cause,
                _why(attempt, before),
                duration(max(attempt.began_ms, 0)),
                duration(attempt.duration_ms),
                round(left, 2),
                round(width, 2),
            )
        )
        before = attempt
    first = None if row.ttft_ms is None else round(min(100 * row.ttft_ms / whole, 100), 2)
    return Timeline(bars, duration(whole), first)


def _why(attempt: AttemptRecord, before: AttemptRecord | None) -> str:
    if before is None:
        return "asked first"
    again = "asked again" if before.endpoint == attempt.endpoint else "asked next"
    return f"{again}, because {before.endpoint} gave: {before.cause or before.outcome}"


@dataclass(frozen=True, slots=True)
class NotAsked:
    """An endpoint that could have served the request, as far as the configuration goes."""

    endpoint: str
    group: str
    why: str


def not_asked(row: RecordedRequest, revisions: QuerySet[Revision], records: RecordSearch) -> list[NotAsked]:
    """By the revision that was in force, and by what happened shortly before: cooldowns are not recorded."""
    revision = revisions.filter(number=row.revision).first()
    if revision is None or not row.model_group:
        return []
    try:
        configuration = configuration_of(revision)
    except ConfigurationInvalid:
        return []
    chain = _chain(configuration, row.model_group)
    tried = {attempt.endpoint for attempt in row.trail}
    failed = _failed_before(row, chain, configuration, records)
    return [
        NotAsked(
            endpoint.name,
            group.model_group,
            _why_not(endpoint, row, fallback=position > 0, failed=failed.get(endpoint.name, "")),
        )
        for position, group in enumerate(chain)
        for endpoint in group.models
        if endpoint.name not in tried
    ]


def _failed_before(
    row: RecordedRequest, chain: list[GroupConfig], configuration: Configuration, records: RecordSearch
) -> dict[str, str]:
    """Endpoint -> how it last failed within a cooldown's time before."""
    general = configuration.general_settings.cooldown_time
    longest = max((group.cooldown_time or general for group in chain), default=general)
    failed: dict[str, str] = {}
    for other in records.failures_before(row.at_ms, longest):
        ago = duration(row.at_ms - other.at_ms)
        for attempt in other.trail:
            if attempt.outcome == "failure":
                failed.setdefault(attempt.endpoint, f"{attempt.cause or attempt.outcome}, {ago} before")
    return failed


def _chain(configuration: Configuration, name: str) -> list[GroupConfig]:
    """The group and its fallbacks, in their order."""
    groups = {group.model_group: group for group in configuration.model_groups}
    first = groups.get(name)
    if first is None:
        return []
    return [first, *(groups[fallback] for fallback in first.fallbacks if fallback in groups)]


def _why_not(endpoint: EndpointConfig, row: RecordedRequest, *, fallback: bool, failed: str) -> str:
    if not endpoint.enabled:
        return f"disabled in revision {row.revision}"
    if failed:
        return f"had just failed ({failed}): it may have been cooling down"
    if fallback:
        return "a fallback: asked when its turn comes after the group itself"
    if endpoint.weight == 0:
        return "weight 0: asked when no endpoint with a weight is available"
    if row.outcome == "failure":
        return "not available then, or no attempts were left"
    return "not its turn, or not available then"
