"""The routing table that is served now, swapped whole. Requests take `table` once and keep it to their end."""

from collections.abc import Callable

from routing.config.table import RoutingTable


class LiveTable:
    """Holds the table; tells listeners when another one is served."""

    def __init__(self, table: RoutingTable) -> None:
        self.table = table
        self._listeners: list[Callable[[RoutingTable], None]] = []

    def on_change(self, listener: Callable[[RoutingTable], None]) -> None:
        self._listeners.append(listener)

    def swap(self, table: RoutingTable) -> None:
        """From now on new requests are served from `table`; those under way end on the old one."""
        self.table = table
        for listener in self._listeners:
            listener(table)
