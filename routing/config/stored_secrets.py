"""Secrets that were typed in: encrypted in the database, named by a fingerprint everywhere else.

Never logs or prints a secret; one that cannot be decrypted is absent, as if it had been deleted. Nothing here deletes
one: an old revision may name it.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from routing.config.origins import SETTINGS, origin_of
from routing.config.references import STORED, kind_of
from routing.config.schema import Configuration, EndpointConfig, GeneralSettings, GroupConfig, Section
from routing.config.secrecy import has_password, is_secret
from routing.models import StoredSecret

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_TEXT_COLUMNS = ("api_key", "redis_password", "cache_password")
_PAIR_COLUMNS = ("default_headers", "default_query")


def keep(plain: str, origin: str = SETTINGS) -> str:
    """Stores a secret for one origin, if it is not stored already. Gives its reference, `stored:FINGERPRINT`."""
    return _keep(plain, {secret: fingerprint for fingerprint, secret in reveal_all().items()}, origin)


def reveal_all() -> dict[str, str]:
    """Fingerprint -> secret, of all that can be decrypted."""
    rows = list(StoredSecret.objects.values_list("fingerprint", "ciphertext"))
    if not rows:
        return {}
    fernet = _fernet()
    opened = ((fingerprint, _opened(fernet, ciphertext)) for fingerprint, ciphertext in rows)
    return {fingerprint: secret for fingerprint, secret in opened if secret is not None}


def fingerprints() -> set[str]:
    """Of all stored secrets, decryptable or not."""
    return set(StoredSecret.objects.values_list("fingerprint", flat=True))


def origins() -> dict[str, set[str]]:
    """Fingerprint -> where its secret was typed in for."""
    return {
        fingerprint: set(known) for fingerprint, known in StoredSecret.objects.values_list("fingerprint", "origins")
    }


def seal(plain: str) -> str:
    """Encrypted for a form's hidden field or a session; `unseal` gives it back."""
    return _fernet().encrypt(plain.encode()).decode()


def unseal(sealed: str) -> str | None:
    """None: it is not ours, or not any more."""
    return _opened(_fernet(), sealed)


def rotate() -> tuple[int, list[str]]:
    """Encrypts with the newest key what an older one encrypted. Gives how many, and the fingerprints that no present
    key opens. Fingerprints stay: they are names, chosen once."""
    newest, every = _fernet(settings.LLMPROXY.encryption_keys[:1]), _fernet()
    rotated, lost = 0, []
    for secret in StoredSecret.objects.select_for_update().order_by("fingerprint"):
        if _opened(newest, secret.ciphertext) is not None:
            continue
        if _opened(every, secret.ciphertext) is None:
            lost.append(secret.fingerprint)
            continue
        secret.ciphertext = every.rotate(secret.ciphertext.encode()).decode()
        secret.save(update_fields=["ciphertext"])
        rotated += 1
    return rotated, lost


def hide(configuration: Configuration) -> Configuration:
    """The configuration with every literal secret stored and replaced by its reference."""
    hide_text = _hider()
    groups = [_hidden_group(group, hide_text) for group in configuration.model_groups]
    general = _hidden_settings(configuration.general_settings, hide_text)
    return configuration.model_copy(update={"model_groups": groups, "general_settings": general})


def hide_section(section: Section) -> Section:
    """The same for one endpoint or the general settings; a group has no secrets of its own."""
    if isinstance(section, EndpointConfig):
        return _hidden_endpoint(section, _hider())
    if isinstance(section, GeneralSettings):
        return _hidden_settings(section, _hider())
    return section


def hidden_columns(columns: Mapping[str, Any], where: Collection[str]) -> dict[str, Any]:
    """Those columns of a row whose literal secrets had to be replaced. where: the origins of the rows meant."""
    hide_text = _hider()

    def hidden(value: str | None) -> str | None:
        reference = value
        for origin in where:
            reference = hide_text(value, origin)
        return reference

    found: dict[str, Any] = {}
    for column, value in columns.items():
        if column in _TEXT_COLUMNS and isinstance(value, str):
            found[column] = hidden(value)
        elif column in _PAIR_COLUMNS and isinstance(value, dict):
            found[column] = _hidden_pairs(value, hidden)
        elif column == "redis_url" and isinstance(value, str) and has_password(value):
            found[column] = hidden(value)
    return {column: value for column, value in found.items() if value != columns[column]}


Hide = Callable[[str | None, str], str | None]


def _hider() -> Hide:
    known: dict[str, str] = {}
    loaded: list[bool] = []

    def hidden(value: str | None, origin: str) -> str | None:
        if not value or kind_of(value) is not None:
            return value
        if not loaded:
            known.update({secret: fingerprint for fingerprint, secret in reveal_all().items()})
            loaded.append(True)
        return _keep(value, known, origin)

    return hidden


def _hidden_group(group: GroupConfig, hidden: Hide) -> GroupConfig:
    return group.model_copy(update={"models": [_hidden_endpoint(endpoint, hidden) for endpoint in group.models]})


def _hidden_endpoint(endpoint: EndpointConfig, hide_text: Hide) -> EndpointConfig:
    params = endpoint.params
    origin = origin_of(params.base_url)

    def hidden(value: str | None) -> str | None:
        return hide_text(value, origin)

    update: dict[str, Any] = {
        "api_key": hidden(params.api_key),
        "default_headers": _hidden_pairs(params.default_headers, hidden),
        "default_query": _hidden_pairs(params.default_query, hidden),
    }
    return endpoint.model_copy(update={"params": params.model_copy(update=update)})


def _hidden_pairs(pairs: dict[str, Any], hidden: Callable[[str | None], str | None]) -> dict[str, Any]:
    return {name: hidden(value) if is_secret(name, value) else value for name, value in pairs.items()}


def _hidden_settings(general: GeneralSettings, hidden: Hide) -> GeneralSettings:
    password = hidden(general.cache_params.password, SETTINGS)
    cache_params = general.cache_params.model_copy(update={"password": password})
    url = general.redis_url
    update = {
        "redis_password": hidden(general.redis_password, SETTINGS),
        "redis_url": hidden(url, SETTINGS) if url is not None and has_password(url) else url,
        "cache_params": cache_params,
    }
    return general.model_copy(update=update)


def _keep(plain: str, known: dict[str, str], origin: str) -> str:
    """known: secret -> fingerprint; learns the new one."""
    if plain not in known:
        fingerprint = _fingerprint(plain)
        ciphertext = _fernet().encrypt(plain.encode()).decode()
        StoredSecret.objects.update_or_create(fingerprint=fingerprint, defaults={"ciphertext": ciphertext})
        known[plain] = fingerprint
    secret = StoredSecret.objects.get(fingerprint=known[plain])
    if origin not in secret.origins:
        secret.origins = [*secret.origins, origin]
        secret.save(update_fields=["origins"])
    return STORED + known[plain]


def _fingerprint(plain: str) -> str:
    """Keyed, so that a short password cannot be guessed from it by trying."""
    newest: str = settings.LLMPROXY.encryption_keys[0]
    return hmac.new(newest.encode(), plain.encode(), hashlib.sha256).hexdigest()[:16]


def _opened(fernet: "MultiFernet", ciphertext: str) -> str | None:
    """None: none of its keys made this."""
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(ciphertext.encode()).decode()
    except (InvalidToken, UnicodeError):
        return None


def _fernet(keys: Sequence[str] | None = None) -> "MultiFernet":
    """keys: the environment's, if none are given."""
    # The import takes 8 MB, which a worker needs only where a key was typed in.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys or settings.LLMPROXY.encryption_keys])
