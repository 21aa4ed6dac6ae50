"""The kinds of values that a configuration holds: numbers with bounds, names, URLs, headers.

Messages say what is wanted and never repeat the value, which may be a secret.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from routing.config.references import STORED, is_reference, kind_of, names_own_secret

MAX_NAME = 200
MAX_TEXT = 4096
_LARGEST = 2**31 - 1
_LARGEST_BIG = 2**53 - 1
_LONGEST_S = 31 * 86_400
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|v1|preview|latest", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|\[[0-9a-f:.]+\]", re.IGNORECASE)
# Set by LLMProxy itself for every request, or valid for one connection only (RFC 9110, 7.6.1).
REFUSED_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host"}
    | {"keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)


def refusal(message: str) -> PydanticCustomError:
    """An error whose message is ours; braces would be taken for placeholders."""
    return PydanticCustomError("unusable", message.replace("{", "(").replace("}", ")"))


def reference(value: str, *, stored: bool) -> str:
    """The reference as it is written, if it is well-formed. stored: whether `stored:` may stand here."""
    if not is_reference(value) or (kind_of(value) == STORED and not stored):
        raise refusal("is not a usable reference: write os.environ/NAME or file:NAME")
    if names_own_secret(value):
        raise refusal("names a secret of the gateway itself, which is for nobody else: use another variable")
    return value


def _item(value: Any) -> Any:
    return value if kind_of(value) is None else reference(value, stored=True)


def _name_item(value: Any) -> Any:
    return value if kind_of(value) is None else reference(value, stored=False)


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise refusal("must be a number")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise refusal("must not hold control characters or line breaks")
    if len(value) > MAX_TEXT:
        raise refusal(f"must be at most {MAX_TEXT} characters long")
    return value


def _name(value: str) -> str:
    if not value:
        raise refusal("must not be empty")
    if not value.isprintable() or value != value.strip():
        raise refusal("must be printable, without control characters and without spaces around it")
    if len(value) > MAX_NAME:
        raise refusal(f"must be at most {MAX_NAME} characters long")
    return value


def _api_version(value: str) -> str:
    if value and not _API_VERSION.fullmatch(value):
        raise refusal("must be a date such as 2025-04-01-preview, or v1, preview or latest")
    return value


def _endpoint_name(value: str) -> str:
    if value and not value.isascii():
        raise refusal("must be ASCII: it is sent in a header of every answer")
    return _name(value) if value else value


def _web_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_usable = parts.port is None or parts.port > 0
    except ValueError:
        raise refusal("must be a URL such as https://api.openai.com/v1") from None
    if parts.scheme not in ("http", "https") or not _VISIBLE.fullmatch(value):
        raise refusal("must be a URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise refusal("must hold no user or password: put the key into api_key")
    if not _HOST.fullmatch(parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc.rstrip(":")):
        raise refusal("must name a host, such as https://api.openai.com/v1")
    if not port_usable:
        raise refusal("must have a port from 1 to 65535")
    if "?" in value:
        raise refusal("must hold no query: put it into default_query")
    if "#" in value or "\\" in value:
        raise refusal("must hold no fragment and no backslash")
    return value


def _store_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        named = parts.path if parts.scheme == "unix" else parts.hostname
        _ = parts.port
    except ValueError:
        named, parts = None, urlsplit("")
    if parts.scheme not in ("redis", "rediss", "unix") or not named:
        raise refusal("must be a URL: redis://host:6379/0, rediss://… or unix:///path/to/socket")
    return _printable(value)


def _credential(value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise refusal("must be visible ASCII characters without spaces or line breaks")
    return _printable(value)


def _header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise refusal("is not a header name")
    if value.lower() in REFUSED_HEADERS:
        raise refusal("may not be set: LLMProxy sets this header itself")
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise refusal("must be ASCII text without line breaks, control characters or spaces around it")
    return _printable(value)


def _one_spelling(headers: Mapping[str, str]) -> Mapping[str, str]:
    if len({name.lower() for name in headers}) < len(headers):
        raise refusal("names a header twice: upper and lower case are the same")
    return headers


_NOT_A_SWITCH = BeforeValidator(_no_switch)
Whole = Annotated[int, _NOT_A_SWITCH, Field(ge=0, le=_LARGEST)]
Positive = Annotated[int, _NOT_A_SWITCH, Field(ge=1, le=_LARGEST)]
PositiveBig = Annotated[int, _NOT_A_SWITCH, Field(ge=1, le=_LARGEST_BIG)]
Weight = Annotated[int, _NOT_A_SWITCH, Field(ge=0, le=1_000_000)]
Retries = Annotated[int, _NOT_A_SWITCH, Field(ge=0, le=100)]
Port = Annotated[int, _NOT_A_SWITCH, Field(ge=0, le=65_535)]
StorePort = Annotated[int, _NOT_A_SWITCH, Field(ge=1, le=65_535)]
Seconds = Annotated[float, _NOT_A_SWITCH, Field(ge=0, le=_LONGEST_S)]
Timeout = Annotated[float, _NOT_A_SWITCH, Field(gt=0, le=_LONGEST_S)]
Dollars = Annotated[float, _NOT_A_SWITCH, Field(ge=0, le=1_000_000)]
Text = Annotated[str, AfterValidator(_printable)]
Name = Annotated[str, AfterValidator(_name)]
ApiVersion = Annotated[str, AfterValidator(_api_version)]
EndpointName = Annotated[str, AfterValidator(_endpoint_name)]
WebUrl = Annotated[str, AfterValidator(_web_url), AfterValidator(_printable)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
Credential = Annotated[str, AfterValidator(_credential)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
NameItem = Annotated[Name, BeforeValidator(_name_item)]
HeaderValue = Annotated[str, BeforeValidator(_item), AfterValidator(_header_value)]
Headers = Annotated[dict[HeaderName, HeaderValue], AfterValidator(_one_spelling)]
Query = dict[Name, Annotated[Text, BeforeValidator(_item)]]
