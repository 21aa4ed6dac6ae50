"""The steps from a fresh checkout to a gateway that may listen; `serve` and `runserver` share them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import connections

from llmproxy_site import first_run
from llmproxy_site.embedded_store import EmbeddedStore
from llmproxy_site.environment import Environment, variables
from llmproxy_site.server import is_loopback
from llmproxy_site.store import StoreAddress, find_store
from routing.config.publish import current_revision
from routing.config.schema import Configuration, GeneralSettings
from routing.config.snapshot import load_last_good
from routing.config.wording import ConfigurationInvalid, shown
from routing.config.yaml_file import FileInvalid
from routing.config.yaml_import import CannotMerge, import_file

DEFAULT_FILE = "llmproxy.yaml"

Tell = Callable[[str], None]


class StartRefused(Exception):
    """The gateway must not start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a start found."""

    revision: int
    configuration: Configuration  # with real values
    store: StoreAddress
    admin_password: str | None  # to be shown once

    @property
    def general(self) -> GeneralSettings:
        """The general settings."""
        return self.configuration.general_settings


def configuration_file(given: Path | None, environment: Environment) -> Path | None:
    """The YAML file to import: the option's, else the variable's, else the working directory's, if it is there."""
    default = Path.cwd() / DEFAULT_FILE
    return given or environment.config or (default if default.exists() else None)


def make_ready(environment: Environment, file: Path | None, warn: Tell) -> Ready:
    """Tables, admin user, configuration and the store's address. Raises StartRefused."""
    with first_run.one_at_a_time(environment.data_dir):
        first_run.migrate()
        password = first_run.make_admin(environment)
        if file is not None:
            _import(file, warn)
    found = _found(environment, password, warn)
    connections.close_all()
    return found


def refuse_public_bind(host: str, general: GeneralSettings, warn: Tell) -> None:
    """Whoever can connect can spend the providers' keys, so without client keys only this machine may. Raises
    StartRefused."""
    if general.client_auth == "required":
        raise StartRefused(
            "client_auth: required cannot be kept yet, because this gateway cannot ask clients for keys. Use auto (only"
            " this machine may connect), or off if the network itself keeps strangers away."
        )
    if is_loopback(host):
        return
    if general.client_auth == "off":
        warn(f"Everybody who can reach {host} can use this gateway and its providers' keys (client_auth: off).")
        return
    raise StartRefused(
        f"Refusing to listen on {host}: other machines could connect, and this gateway cannot ask clients for keys yet."
        " Bind to 127.0.0.1, or set client_auth: off in general_settings if the network itself keeps strangers away."
    )


@contextmanager
def store_running(environment: Environment, address: StoreAddress, warn: Tell) -> Iterator[None]:
    """An embedded store is kept running; a given one is its owner's business."""
    if address.kind == "in_process":
        warn("No store: no server binary for this platform. Health and counters are kept in one worker's memory.")
    if address.kind != "embedded":
        yield
        return
    store = EmbeddedStore(environment.data_dir)
    try:
        if not store.start():
            warn("The embedded store does not answer yet. Serving without it; trying on.")
        yield
    finally:
        store.stop()


def _import(file: Path, warn: Tell) -> None:
    try:
        result = import_file(file, author="serve", source=f"start with {file.name}", winner="database")
    except CannotMerge as error:
        warn(f"{file.name} was not imported, the database counts. Mend one of them, then import_config:\n{error}")
        return
    except (FileInvalid, ConfigurationInvalid) as error:
        raise StartRefused(str(error)) from error
    for conflict in result.conflicts:
        place = f"{shown(conflict.what)} {shown(conflict.key)}".rstrip()
        warn(f"{place} was changed in {file.name} and in the admin: the admin's value stays.")
    for blanked in result.blanked:
        warn(f"The stored key was taken out, it was for another host: {blanked}.")
    for reference, reason in sorted(result.resolution.invalid.items()):
        warn(f"{reference}: {reason}")
    if result.missing:
        warn(f"No usable value for {', '.join(result.missing)}.")
    if result.resolution.missing:
        warn(f"Out of service until they have one: {', '.join(sorted(result.resolution.missing))}.")


def _found(environment: Environment, password: str | None, warn: Tell) -> Ready:
    try:
        loaded = load_last_good()
    except ConfigurationInvalid as error:
        raise StartRefused(
            "The published configuration is of another version of LLMProxy: import a configuration file again"
            f" (manage.py import_config FILE). {len(error.problems)} problems."
        ) from None
    if loaded.revision != (published := current_revision()):
        warn(f"Revision {published} cannot be served: serving revision {loaded.revision}. /health says what is wrong.")
    configuration = loaded.resolved(variables(), environment.secrets_dir).configuration
    store = find_store(environment, configuration.general_settings)
    return Ready(loaded.revision, configuration, store, password)
