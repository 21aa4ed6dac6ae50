"""Who carries requests to an endpoint: the fast client, or httpx's where a proxy stands between. Sends nothing."""

from collections.abc import Mapping

from routing.config.table import Endpoint
from routing.upstream.fast import FastUpstream
from routing.upstream.proxies import proxy_for
from routing.upstream.transport import Upstream


class Carriers:
    """Of one process; `variables` name the proxies."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._fast = FastUpstream()
        self._through_httpx: Upstream | None = None
        self._chosen: dict[str, Upstream] = {}  # by endpoint id

    def of(self, endpoint: Endpoint) -> Upstream:
        carrier = self._chosen.get(endpoint.id)
        if carrier is None:
            carrier = self._chosen[endpoint.id] = self._choose(endpoint)
        return carrier

    def _choose(self, endpoint: Endpoint) -> Upstream:
        if endpoint.proxied or (endpoint.provider and proxy_for(endpoint.provider.origin, self._variables)):
            if self._through_httpx is None:
                from routing.upstream.httpx_transport import HttpxUpstream  # 10 MB that few installations need

                self._through_httpx = HttpxUpstream(self._variables)
            return self._through_httpx
        return self._fast

    def forget(self) -> None:
        """Other endpoints are served now; open connections stay."""
        self._chosen.clear()

    async def aclose(self) -> None:
        await self._fast.aclose()
        if self._through_httpx is not None:
            await self._through_httpx.aclose()
