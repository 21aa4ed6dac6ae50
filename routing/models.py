"""The configuration as tables: what the admin edits and revisions are made of. Nothing on the request path reads them.

Columns have the names of the schema's fields. A reference stands in its column where that holds free text; else
`references` holds it by the column's name, and the column has its default. `routing.config.columns` translates.
"""

from collections.abc import Sequence
from typing import Any, get_args

from django.db import models

from routing.config import schema, values
from routing.config.change_text import text_of
from routing.config.differences import Change
from routing.published_rows import PublishedRow


def _choice(section: type[schema.Section], field: str, help_text: str = "") -> "models.CharField[str, str]":
    declared = section.model_fields[field]
    options = [(option, option.replace("_", " ")) for option in get_args(declared.annotation)]
    return models.CharField(max_length=32, choices=options, default=declared.default, help_text=help_text)


def _text(help_text: str = "") -> "models.CharField[str, str]":
    return models.CharField(max_length=values.MAX_TEXT, blank=True, default="", help_text=help_text)


def _seconds(help_text: str, default: float | None = None) -> "models.FloatField[Any, Any]":
    wider = "" if default is not None else "; empty: as the wider level says"
    optional = default is None
    return models.FloatField(null=optional, blank=optional, default=default, help_text=f"Seconds{help_text}{wider}.")


def _limit(help_text: str) -> "models.PositiveIntegerField[Any, Any]":
    return models.PositiveIntegerField(null=True, blank=True, help_text=help_text)


def _dollars(name: str, help_text: str) -> "models.FloatField[Any, Any]":
    return models.FloatField(
        name, null=True, blank=True, help_text=f"US dollars per million tokens; empty: {help_text}."
    )


class ModelGroup(PublishedRow):
    """What clients call a model."""

    name = models.CharField(max_length=values.MAX_NAME, unique=True, help_text='What clients send as "model".')
    position = models.PositiveIntegerField(default=0)
    strategy = _choice(schema.GroupConfig, "strategy")
    fallbacks = models.JSONField(
        default=list, blank=True, help_text='Other groups, in order, when this one is exhausted: ["other-group"].'
    )
    stream_recovery = _choice(
        schema.GroupConfig,
        "stream_recovery",
        "buffer: a stream is held until it is complete, so that it can fail over.",
    )
    cache = models.BooleanField(default=True)
    cache_ttl = _limit("Seconds; empty: the cache's own.")
    cache_policy = _choice(schema.GroupConfig, "cache_policy")
    cache_shared = models.BooleanField(default=False, help_text="One cache for all clients.")
    num_retries = _limit("Attempts after the first one; empty: as the general settings say.")
    allowed_fails = _limit("Failures in a row that start a cooldown; empty: as the general settings say.")
    cooldown_time = _seconds("")
    connect_timeout = _seconds(" to a connection")
    http_timeout = _seconds(" for the whole JSON answer of one attempt")
    first_event_timeout = _seconds(" to a stream's first data event")
    idle_timeout = _seconds(" between two reads of a stream")
    stream_timeout = _seconds(" for the whole stream of one attempt")
    references = models.JSONField(default=dict, blank=True, editable=False)

    class Meta(PublishedRow.Meta):
        ordering = ["position", "name"]
        verbose_name = "model group"

    def __str__(self) -> str:
        return self.name


class Endpoint(PublishedRow):
    """One upstream deployment that serves a group."""

    group = models.ForeignKey(ModelGroup, on_delete=models.CASCADE, related_name="endpoints")
    name = models.CharField(
        max_length=values.MAX_NAME, unique=True, blank=True, help_text="Unique over all groups; empty: from the model."
    )
    position = models.PositiveIntegerField(default=0)
    model = models.CharField(max_length=values.MAX_NAME, help_text="Name sent upstream (Azure: the deployment).")
    weight = models.PositiveIntegerField(default=1, help_text="0: only when no weighted endpoint is available.")
    enabled = models.BooleanField(default=True)
    rpm = _limit("Requests a minute; empty: no limit.")
    tpm = _limit("Tokens a minute; empty: no limit.")
    max_parallel = _limit("Requests at a time; empty: no limit.")
    price_input = _dollars("price of input", "the provider's list price, where it is known")
    price_output = _dollars("price of output", "unknown")
    price_cached_input = _dollars("price of cached input", "as other input")
    api_key = _text("os.environ/NAME, file:NAME, or the key itself, which is kept encrypted.")
    base_url = models.CharField(
        max_length=values.MAX_TEXT, default=schema.OPENAI_URL, help_text="Without a path it gets /v1."
    )
    api_version = _text('Azure: a date such as "2025-04-01-preview", or empty for /openai/v1.')
    default_query = models.JSONField(default=dict, blank=True, help_text="Sent with every request.")
    default_headers = models.JSONField(default=dict, blank=True, help_text="Sent with every request.")
    provider = _choice(schema.Params, "provider", "auto: by the host.")
    ask_usage = _choice(schema.Params, "ask_usage", "Whether streams are asked for their usage.")
    ca_file = _text("PEM bundle to trust instead of the system's.")
    transport = _choice(schema.Params, "transport")
    connect_timeout = _seconds(" to a connection")
    http_timeout = _seconds(" for the whole JSON answer of one attempt")
    first_event_timeout = _seconds(" to a stream's first data event")
    idle_timeout = _seconds(" between two reads of a stream")
    stream_timeout = _seconds(" for the whole stream of one attempt")
    references = models.JSONField(default=dict, blank=True, editable=False)

    class Meta(PublishedRow.Meta):
        ordering = ["group__position", "position", "name"]
        permissions = [("operate_endpoint", "Can switch, drain and test endpoints, and end cooldowns")]

    def __str__(self) -> str:
        return self.name

    def complete(self, beside: Sequence[models.Model]) -> None:
        """Without a name it gets the one that it would get in YAML."""
        if self.name:
            return
        taken = set(Endpoint.objects.exclude(pk=self.pk).values_list("name", flat=True))
        taken |= {row.name for row in beside if isinstance(row, Endpoint)}
        self.name = schema.free_name(self.model, self.base_url, taken)


class GeneralSettings(PublishedRow):
    """Everything that is not about one group or endpoint: one row."""

    ONLY_ROW = 1

    bind_address = models.CharField(max_length=values.MAX_NAME, default="127.0.0.1", help_text="Applies at restart.")
    bind_port = models.PositiveIntegerField(default=4243, help_text="Applies at restart.")
    num_retries = models.PositiveIntegerField(default=3, help_text="Attempts after the first one.")
    allowed_fails = models.PositiveIntegerField(default=1, help_text="Failures in a row that start a cooldown.")
    cooldown_time = _seconds("", 60)
    connect_timeout = _seconds(" to a connection", 5)
    http_timeout = _seconds(" for the whole JSON answer of one attempt", 600)
    first_event_timeout = _seconds(" to a stream's first data event", 60)
    idle_timeout = _seconds(" between two reads of a stream", 300)
    stream_timeout = _seconds(" for the whole stream of one attempt", 3600)
    http_max_connections = models.PositiveIntegerField(default=1000, help_text="Per endpoint and worker.")
    max_request_body_bytes = models.PositiveBigIntegerField(default=33_554_432)
    max_response_bytes = models.PositiveBigIntegerField(default=268_435_456)
    max_in_flight = models.PositiveIntegerField(default=2000, help_text="Per worker; more: 503 overloaded.")
    redis_url = _text("Or the host; neither: the embedded store. Applies at restart.")
    redis_host = _text("Applies at restart.")
    redis_port = models.PositiveIntegerField(default=6379, help_text="Applies at restart.")
    redis_password = _text("os.environ/NAME, file:NAME, or the password itself, which is kept encrypted.")
    redis_ssl = models.BooleanField("TLS to Redis", default=False)
    redis_ssl_cert_reqs = _choice(schema.GeneralSettings, "redis_ssl_cert_reqs", "The server's certificate.")
    cache = models.BooleanField(default=True)
    cache_type = _choice(schema.CacheParams, "type")
    cache_ttl = models.PositiveIntegerField(default=604_800, help_text="Seconds.")
    cache_namespace = models.CharField(max_length=values.MAX_NAME, default="llmproxy.cache")
    cache_host = _text("Empty: the Redis server above.")
    cache_port = _limit("Empty: the Redis server above.")
    cache_password = _text("os.environ/NAME, file:NAME, or the password itself, which is kept encrypted.")
    cache_max_entry_bytes = models.PositiveBigIntegerField(default=67_108_864)
    response_affinity_ttl = models.PositiveIntegerField(default=21_600, help_text="Seconds.")
    client_auth = _choice(schema.GeneralSettings, "client_auth")
    references = models.JSONField(default=dict, blank=True, editable=False)

    class Meta(PublishedRow.Meta):
        verbose_name = verbose_name_plural = "general settings"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="routing_generalsettings_one_row")]

    def __str__(self) -> str:
        return "General settings"

    def save_base(self, *args: Any, **kwargs: Any) -> None:
        self.pk = self.ONLY_ROW  # sequences count on after a rollback
        super().save_base(*args, **kwargs)


class Revision(models.Model):
    """The whole configuration as it was published once. Never changed."""

    number = models.PositiveBigIntegerField(primary_key=True)
    created_at = models.DateTimeField(auto_now_add=True)
    author = models.CharField(max_length=values.MAX_NAME)
    source = models.CharField(max_length=values.MAX_TEXT)
    message = models.TextField(blank=True, default="")
    digest = models.CharField(max_length=64)
    snapshot = models.JSONField()
    changes = models.JSONField(default=list, help_text="What differs from the revision before: `Change.as_json`.")

    class Meta:
        ordering = ["-number"]
        permissions = [("publish_revision", "Can import files and roll back")]
        get_latest_by = "number"

    def __str__(self) -> str:
        return f"Revision {self.number}"

    @property
    def diff(self) -> str:
        """What differs from the revision before, in lines for people."""
        return text_of(Change(**change) for change in self.changes)


class StoredSecret(models.Model):
    """A key that was typed in, encrypted. The fingerprint is its name everywhere else."""

    fingerprint = models.CharField(max_length=16, primary_key=True)
    ciphertext = models.TextField()
    origins = models.JSONField(default=list, help_text="Where it may go: scheme, host and port.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.fingerprint


class ImportedFile(models.Model):
    """What the YAML file said when it was imported last: one row, the base of the next import's comparison.

    `content` and `leftovers` are `routing.config.parts` as JSON. Leftovers: what an earlier file named, this one did
    not, and nobody removed.
    """

    ONLY_ROW = 1

    name = models.CharField(max_length=values.MAX_TEXT)
    author = models.CharField(max_length=values.MAX_NAME)
    imported_at = models.DateTimeField(auto_now=True)
    content = models.JSONField(default=list)
    leftovers = models.JSONField(default=list)

    def __str__(self) -> str:
        return self.name
