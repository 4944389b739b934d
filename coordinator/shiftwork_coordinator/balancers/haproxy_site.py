"""One HAProxy process as a driver sees it: read it whole, and find an instance in it."""

from __future__ import annotations

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.balancers import haproxy_rows
from shiftwork_coordinator.balancers.haproxy_rows import Row, View
from shiftwork_coordinator.balancers.haproxy_wire import Wire
from shiftwork_coordinator.ports import Server


class Site:
    """One HAProxy process, its master if given, and the backends used there."""

    def __init__(self, wire: Wire, master: Wire | None, backends: tuple[str, ...], template: str) -> None:
        self.wire, self.master, self.backends, self._template = wire, master, backends, template

    async def view(self) -> View:
        """Raises Unavailable when the process, or one that a reload left behind, cannot be asked."""
        found = haproxy_rows.view(await self.wire.ask(haproxy_rows.READ))
        if self.master is None:
            return found
        return msgspec.structs.replace(found, leftover=await self._leftover(self.master))

    async def _leftover(self, master: Wire) -> dict[str, int]:
        left: dict[str, int] = {}
        for pid in haproxy_rows.old_workers(await master.ask("show proc")):
            answer = await master.ask(f"@!{pid} {haproxy_rows.BUSY}")
            # It ended between the two questions: nothing is left on it.
            if answer.startswith("Can't find the target"):
                continue
            for path, count in haproxy_rows.busy(answer).items():
                left[path] = left.get(path, 0) + count
        return left

    def rows(self, found: View, server: Server) -> list[Row]:
        """Its server in each of the backends. Raises InvalidRequest unless each has exactly one."""
        return [self._row(found, backend, server) for backend in self.backends]

    def _row(self, found: View, backend: str, server: Server) -> Row:
        name = self._template.format(instance=server.name)
        if named := found.named.get(f"{backend}/{name}"):
            return named
        matches = [row for row in found.rows if row.backend == backend and _same_address(row, server)]
        if len(matches) == 1:
            return matches[0]
        how = f"{', '.join(row.name for row in matches)} all match" if matches else "none matches"
        raise InvalidRequest(
            f"cannot tell which server of backend {backend} in HAProxy at {self.wire.where.text} is instance "
            f"{server.instance}: {how} name {name!r} or address {server.address or '(none)'}:{server.port}; "
            "name the server like the instance, or set `server`",
            code="SERVER_NOT_MATCHED",
        )


def _same_address(row: Row, server: Server) -> bool:
    return bool(server.address) and row.address == server.address and server.port in (0, row.port)
