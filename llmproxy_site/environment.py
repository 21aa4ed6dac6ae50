"""The only place that reads the environment: variables, `.env`, and the secrets that the first start makes.

`.env` of the working directory fills in what is not set and never overrides. Nothing here knows Django.
"""

import base64
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from routing.redaction import password_in

PROJECT = Path(__file__).resolve().parent.parent

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class EnvironmentProblem(Exception):
    """A variable has no usable value, or the data directory cannot be used; the message says what to do."""


class Environment(BaseSettings):
    """What the process was told from outside. Lists are written with commas."""

    model_config = SettingsConfigDict(env_prefix="LLMPROXY_", env_ignore_empty=True, frozen=True, extra="ignore")

    config: Path | None = None
    redis_url: str | None = Field(None, repr=False)
    database_url: str | None = Field(None, validation_alias="DATABASE_URL", repr=False)
    data_dir: Path = PROJECT / "var"
    secret_key: str = Field("", repr=False)
    encryption_keys: CommaSeparated = Field((), repr=False)  # newest first
    allowed_hosts: CommaSeparated = ()
    csrf_trusted_origins: CommaSeparated = ()
    bootstrap_key: str | None = Field(None, repr=False)
    admin_password: str | None = Field(None, repr=False)
    log_level: str = Field("INFO", validation_alias="LOG_LEVEL")
    secrets_dir: Path = Path("/run/secrets")

    @field_validator("encryption_keys", "allowed_hosts", "csrf_trusted_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("data_dir", "config")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(os.path.abspath(value.expanduser()))  # noqa: PTH100 - keeps symlinks

    @field_validator("redis_url", mode="after")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://, rediss:// or unix:// and the address")
        return value

    @field_validator("log_level", mode="after")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("write one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return value.upper()

    @field_validator("encryption_keys", mode="after")
    @classmethod
    def _fernet_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            if not _is_fernet_key(key):
                raise ValueError("write 32 random bytes in URL-safe base64 (44 characters), newest key first")
        return value

    def secrets(self) -> list[str]:
        """What no log line may show."""
        urls = (password_in(url) for url in (self.redis_url, self.database_url) if url)
        single = (self.secret_key, self.bootstrap_key, self.admin_password, *self.encryption_keys, *urls)
        return [secret for secret in single if secret]

    @classmethod
    def variable_names(cls) -> list[str]:
        """The variables that are read, as users write them."""
        prefix = cls.model_config["env_prefix"]
        return [str(field.validation_alias or f"{prefix}{name}".upper()) for name, field in cls.model_fields.items()]


@cache
def environment() -> Environment:
    """The environment of this process, read once; makes the secrets that are not given."""
    variables()
    try:
        read = Environment()
    except ValidationError as error:
        raise EnvironmentProblem(_explained(error)) from None  # pydantic's own text would show the value
    missing: dict[str, object] = {}
    if not read.secret_key:
        missing["secret_key"] = kept_secret(read.data_dir / "secret_key", secrets.token_urlsafe(50))
    if not read.encryption_keys:
        made = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        missing["encryption_keys"] = tuple(kept_secret(read.data_dir / "encryption_key", made).split(","))
    return read.model_copy(update=missing)


@cache
def variables() -> Mapping[str, str]:
    """All variables, `.env` included; what configuration references like `os.environ/NAME` look into."""
    for name, value in dotenv_values(Path.cwd() / ".env").items():
        if value is not None:
            os.environ.setdefault(name, value)  # noqa: TID251
    return MappingProxyType(os.environ)  # noqa: TID251


def with_changes(**changes: str) -> dict[str, str]:
    """A copy of the environment for a process that we start, with these variables set."""
    return {**variables(), **changes}


def python_module(name: str) -> list[str]:
    """The command that runs a module of this project with this interpreter; needs `child_environment`."""
    return [sys.executable, "-P", "-m", name]


def child_environment() -> dict[str, str]:
    """For `python_module`: whatever the working directory is, modules come from this project and never from there."""
    inherited = variables().get("PYTHONPATH")
    return with_changes(PYTHONPATH=os.pathsep.join([str(PROJECT), *([inherited] if inherited else [])]))


def adopt(**changes: str) -> None:
    """Sets variables for the processes that this one starts; what was read already stays as it was."""
    os.environ.update(changes)  # noqa: TID251


def private_directory(path: Path) -> Path:
    """Makes the directory for the owner alone where it is missing."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror}. Set LLMPROXY_DATA_DIR to a writable directory.") from error
    return path


def kept_secret(path: Path, fresh: str) -> str:
    """What the file holds; `fresh`, if this process is the first that needs it.

    The file appears whole or not at all (link does not replace), so processes that start together agree.
    """
    try:
        if not path.exists():
            _publish_once(path, fresh)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror}. Set LLMPROXY_DATA_DIR to a writable directory.") from error


def _publish_once(path: Path, text: str) -> None:
    private_directory(path.parent)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(draft)
    except FileExistsError:
        return  # another process was first: its secret counts
    finally:
        Path(draft).unlink()


def _is_fernet_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, altchars=b"-_", validate=True)) == 32
    except ValueError:
        return False


def _explained(error: ValidationError) -> str:
    names = dict(zip(Environment.model_fields, Environment.variable_names(), strict=True))
    problems = []
    for problem in error.errors(include_input=False, include_context=False):
        field = str(problem["loc"][0])
        problems.append(f"{names.get(field, field)}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
