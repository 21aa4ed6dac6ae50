"""The tables of what happened: a row per request, sums by minute, hour and day, and which batches have arrived.

`stats.record_tables` writes them, `stats.history` reads them, `stats.retention` empties them.
"""

from datetime import UTC, datetime

from django.db import models

from stats.record import AttemptRecord, RequestRecord, attempts_from_json
from stats.rollups import CellKey

NAME_LENGTH = 200  # of groups and endpoints, as the configuration allows

# Neither everywhere, as successes, nor found by `troubled`, as failures.
_UNSUCCESSFUL = models.Q(outcome="rejected") | models.Q(outcome="cancelled")


def _word(length: int = 32) -> "models.CharField[str, str]":
    return models.CharField(max_length=length, default="")


def _count() -> "models.BigIntegerField[int, int]":
    return models.BigIntegerField(default=0)


def _known_count() -> "models.BigIntegerField[int | None, int | None]":
    return models.BigIntegerField(null=True)


class RecordedRequest(models.Model):
    """A `RequestRecord`. `slow`, `expensive` and `troubled` are there for their indexes, which hold little else."""

    request_id = _word(128)
    at_ms = models.BigIntegerField(help_text="Unix time of the request's start, in milliseconds.")
    duration_ms = models.FloatField()
    operation = _word()
    outcome = _word()
    status = models.PositiveSmallIntegerField(default=0)
    error = _word(64)
    stream = models.BooleanField(default=False)
    key = _word(NAME_LENGTH)
    model_group = _word(NAME_LENGTH)
    revision = models.PositiveBigIntegerField(default=0)
    cache = _word()
    cache_detail = _word(64)
    endpoint = _word(NAME_LENGTH)
    endpoint_id = _word(64)
    attempts = models.TextField(default="[]", help_text="JSON: arrays with the fields of `AttemptRecord`.")
    ttft_ms = models.FloatField(null=True)
    overhead_ms = models.FloatField(null=True)
    input_tokens = _known_count()
    output_tokens = _known_count()
    cached_tokens = _known_count()
    reasoning_tokens = _known_count()
    partial = models.BooleanField(default=False)
    cost_nano_usd = _known_count()
    saved_nano_usd = _known_count()
    slow = models.BooleanField(default=False)
    expensive = models.BooleanField(default=False)
    troubled = models.BooleanField(default=False)

    class Meta:
        verbose_name = "request"
        default_permissions = ("view",)  # nobody writes or changes what happened
        indexes = [
            models.Index(fields=["at_ms"], name="stats_request_time"),
            models.Index(fields=["request_id", "at_ms"], name="stats_request_id"),
            models.Index(fields=["key", "at_ms"], name="stats_request_key"),
            models.Index(fields=["model_group", "at_ms"], name="stats_request_group"),
            models.Index(fields=["endpoint", "at_ms"], name="stats_request_endpoint"),
            models.Index(fields=["status", "at_ms"], name="stats_request_status"),
            models.Index(fields=["at_ms"], name="stats_request_slow", condition=models.Q(slow=True)),
            models.Index(fields=["at_ms"], name="stats_request_expensive", condition=models.Q(expensive=True)),
            models.Index(fields=["at_ms"], name="stats_request_troubled", condition=models.Q(troubled=True)),
            models.Index(fields=["outcome", "at_ms"], name="stats_request_outcome", condition=_UNSUCCESSFUL),
        ]

    def __str__(self) -> str:
        return self.request_id

    @property
    def at(self) -> datetime:
        """The request's start, UTC."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @property
    def trail(self) -> list[AttemptRecord]:
        """The attempts in their order."""
        return attempts_from_json(self.attempts)

    def as_record(self) -> RequestRecord:
        """What was recorded."""
        same = (name for name in RequestRecord.__struct_fields__ if name not in ("at", "attempts"))
        return RequestRecord(at=self.at_ms / 1000, attempts=self.trail, **{name: getattr(self, name) for name in same})


class Rollup(models.Model):
    """A `Cell`: sums over a minute, an hour or a day."""

    step = models.PositiveIntegerField(help_text="Seconds: 60, 3600 or 86400.")
    start = models.BigIntegerField(help_text="Unix time.")
    model_group = _word(NAME_LENGTH)
    endpoint = _word(NAME_LENGTH)
    success = _count()
    failure = _count()
    rejected = _count()
    cancelled = _count()
    cache_hits = _count()
    cache_misses = _count()
    input_tokens = _count()
    output_tokens = _count()
    cached_tokens = _count()
    reasoning_tokens = _count()
    saved_tokens = _count()
    cost_nano_usd = _count()
    saved_nano_usd = _count()
    unpriced = _count()
    unrecorded = _count()
    latency = models.TextField(default="{}", help_text="JSON: number of a latency bucket -> successes.")
    ttft = models.TextField(default="{}", help_text="The same for the time to the first event of streams.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["step", "start", "model_group", "endpoint"], name="stats_rollup_cell"),
        ]

    def __str__(self) -> str:
        return str(CellKey(self.start, self.model_group, self.endpoint))


class WrittenBatch(models.Model):
    """The last batch of each writer that is in the tables: one whose commit was not confirmed is not written twice."""

    writer = models.CharField(max_length=32, primary_key=True)
    number = models.PositiveBigIntegerField()
    at = models.BigIntegerField(help_text="Unix time.")

    def __str__(self) -> str:
        return f"{self.writer} {self.number}"
