"""Tells all workers that a revision was published. They look for themselves every second; this makes it sooner."""

from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from llmproxy_site.environment import variables
from llmproxy_site.spared_imports import spared
from llmproxy_site.store import StoreAddress, find_store
from routing.config.snapshot import load
from routing.config.watch import CHANNEL
from routing.models import Revision

# The first import of redis in every process. Where OpenTelemetry is installed it would be imported with it, for metrics
# that nobody asks for: 7 MB in every worker.
with spared("opentelemetry"):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

_TIMEOUT_S = 0.25

log = structlog.get_logger(__name__)


def when_committed(sender: type[Revision], instance: Revision, **_: Any) -> None:
    """A receiver of post_save: a revision that is rolled back is never told."""
    transaction.on_commit(lambda: tell_workers(instance.number), robust=True)


def tell_workers(number: int) -> None:
    """One message; a store that does not answer costs a quarter of a second."""
    address = configured_store()
    if address.kind == "in_process":
        return
    try:
        with sync_client(address) as client:
            client.publish(CHANNEL, number)
    except redis.RedisError as error:
        log.debug("workers were not told of a revision; they will find it", reason=type(error).__name__)


def configured_store() -> StoreAddress:
    """The store of the published configuration, as workers find it."""
    resolution = load().resolved(variables(), settings.LLMPROXY.secrets_dir)
    return find_store(settings.LLMPROXY, resolution.configuration.general_settings)


def sync_client(address: StoreAddress) -> redis.Redis:  # noqa: TID251 - for commands and the admin, not for requests
    """A blocking client that neither retries nor waits long."""
    return redis.Redis.from_url(  # noqa: TID251
        address.url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )
