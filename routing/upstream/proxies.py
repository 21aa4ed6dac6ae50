"""The proxy that the environment names for an origin: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY less NO_PROXY. Pure."""

import ipaddress
from collections.abc import Mapping

from routing.upstream.transport import Origin


def proxy_for(origin: Origin, variables: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None for a direct connection. Lower-case names win over upper-case ones, as in curl.

    HTTP_PROXY in upper case is not read in a CGI process, where a client's `Proxy:` header sets it (httpoxy).
    """
    proxy = _variable(f"{origin.scheme}_proxy", variables) or _variable("all_proxy", variables)
    if not proxy or _excepted(origin, _variable("no_proxy", variables)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(name: str, variables: Mapping[str, str]) -> str:
    upper = name.upper()
    if upper == "HTTP_PROXY" and "REQUEST_METHOD" in variables:
        upper = name
    return variables.get(name, variables.get(upper, "")).strip()


def _excepted(origin: Origin, no_proxy: str) -> bool:
    return any(_matches(origin, entry) for entry in no_proxy.replace(",", " ").split())


def _matches(origin: Origin, entry: str) -> bool:
    """An entry is `*`, a host or domain (with its subdomains; a leading dot or `*.` changes nothing), an address or a
    network, each but the first and the last with a port or without."""
    if entry == "*":
        return True
    name, port = _split_port(entry.lower())
    if port is not None and port != origin.port:
        return False
    address = _address(origin.host)
    if address is not None:
        return _holds(name, address)
    host = origin.host.lower().rstrip(".")
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    name, colon, port = entry.rpartition(":")
    if not colon or not port.isdecimal() or (":" in name and not name.endswith("]")):
        return entry.strip("[]"), None
    return name.strip("[]"), int(port)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
