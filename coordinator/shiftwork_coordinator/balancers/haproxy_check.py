"""What would go wrong with this HAProxy, found before a deployment touches anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.balancers.haproxy_rows import Row, View
from shiftwork_coordinator.balancers.haproxy_site import Site
from shiftwork_coordinator.ports import Problem, Server


def problems(site: Site, found: View, servers: Sequence[Server], level: str, unchecked: bool) -> list[Problem]:
    """Of the endpoint first, then of each server."""
    where = f"HAProxy at {site.wire.where.text}"
    return [*_of_endpoint(site, found, level, where), *_of_servers(site, found, servers, unchecked, where)]


def _of_endpoint(site: Site, found: View, level: str, where: str) -> Iterator[Problem]:
    if level != "admin":
        yield Problem(
            f"cannot change servers of {where}: the socket has level {level!r}, it needs `admin`; "
            "write `stats socket … level admin` in the global section"
        )
    if found.processes > 1:
        yield Problem(
            f"cannot see all traffic of {where}: it runs {found.processes} processes (`nbproc`) and one socket shows "
            "one of them; give each process its socket and name all of them in `endpoints`"
        )
    known = {row.backend for row in found.rows}
    for backend in site.backends:
        if backend not in known:
            yield Problem(
                f"cannot find backend {backend} in {where}, or it has no server; it has: {', '.join(sorted(known))}"
            )
    if site.master is None:
        yield Problem(
            f"cannot see requests that old workers of {where} still serve after a reload: no `master` is set; "
            "start it with `-W -S PATH` and set `master`",
            fatal=False,
        )


def _of_servers(site: Site, found: View, servers: Sequence[Server], unchecked: bool, where: str) -> Iterator[Problem]:
    matched: dict[str, str] = {}
    known = {row.backend for row in found.rows}
    for server in servers:
        try:
            rows = site.rows(found, server)
        except InvalidRequest as err:
            if known.issuperset(site.backends):
                yield Problem(err.message, instance=server.instance)
            continue
        for row in rows:
            other = matched.setdefault(row.path, server.instance)
            if other != server.instance:
                yield Problem(
                    f"cannot tell instances {other} and {server.instance} apart: both are {row.path} in {where}; "
                    "name the servers like the instances",
                    instance=server.instance,
                )
            yield from _of_row(row, server, {one.path for one in rows}, unchecked, where)
        yield from _elsewhere(site, found, rows, server, where)


def _of_row(row: Row, server: Server, ours: set[str], unchecked: bool, where: str) -> Iterator[Problem]:
    what = f"{row.path} of {where}"
    if row.agent:
        yield Problem(
            f"cannot steer {what} while it has an `agent-check`: its answer `ready` or `up` would undo ours; "
            "remove `agent-check` from the server line",
            instance=server.instance,
        )
    if row.tracks and row.tracks not in ours:
        yield Problem(
            f"cannot steer {what}: it tracks {row.tracks}, which is not among the `backends`; add its backend",
            instance=server.instance,
        )
    if not row.tracks and not row.checked and not unchecked:
        yield Problem(
            f"cannot prove that {what} works when it comes back: it has no health check, or checks are disabled; "
            "add `check` to the server line, or set `unchecked: allow`",
            instance=server.instance,
        )
    if row.checked and row.fall == 1:
        yield Problem(
            f"cannot always tell whether {what} was checked since it came back: with `fall 1` an unproven server "
            "looks like a proven one; write `fall 2` or more",
            fatal=False,
            instance=server.instance,
        )


def _elsewhere(site: Site, found: View, rows: Sequence[Row], server: Server, where: str) -> Iterator[Problem]:
    """The same address in a backend that was not named keeps getting requests."""
    addresses = {(row.address, row.port) for row in rows}
    others = {
        row.path for row in found.rows if row.backend not in site.backends and (row.address, row.port) in addresses
    }
    tracking = {row.path for row in found.rows if row.tracks in {one.path for one in rows}}
    for path in sorted(others - tracking):
        yield Problem(
            f"cannot take instance {server.instance} out of all traffic: {where} also sends to it as {path}; "
            "add that backend to `backends`, unless nothing but tests goes there",
            fatal=False,
            instance=server.instance,
        )
