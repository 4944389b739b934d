"""What HAProxy says about its servers, as values: parsed from several commands' answers, judged without memory."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import chain

import msgspec

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.ports import Reading, TrafficState

READ = "show info; show servers state; show servers conn; show stat -1 4 -1"
BUSY = "show stat -1 4 -1"
OUT, OUT_BY_CONFIGURATION, OUT_BY_NAME_RESOLUTION = 0x01, 0x04, 0x20
MAINTENANCE = OUT | 0x02 | OUT_BY_NAME_RESOLUTION
DRAIN = 0x08 | 0x10
CHECK_CONFIGURED, CHECK_ENABLED = 0x02, 0x04
PASSED = ("L4OK", "L6OK", "L7OK", "L7OKC")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One server of one backend in one process. `busy` counts requests on it or queued for it."""

    backend: str
    name: str
    address: str
    port: int
    admin: int
    weight: int
    checked: bool
    status: str
    check_status: str
    fall: int
    agent: str
    tracks: str
    throttle: str
    busy: int

    @property
    def path(self) -> str:
        return f"{self.backend}/{self.name}"

    @property
    def asked_out(self) -> bool:
        """Somebody set maint or drain on the socket: `ready` undoes it."""
        return bool(self.admin & (OUT | 0x08))


class View(msgspec.Struct, frozen=True):
    """Everything one process said in one answer, and what old processes still serve, by backend/server."""

    pid: str
    started: str
    processes: int
    rows: tuple[Row, ...]
    named: Mapping[str, Row]
    leftover: Mapping[str, int] = {}

    @property
    def generation(self) -> str:
        return f"{self.pid}@{self.started}"


def view(answer: str) -> View:
    """Parses the answer to READ. Raises Unavailable when a part is missing or is not what was asked for."""
    try:
        return _view(answer)
    except KeyError as err:
        raise Unavailable(f"cannot read HAProxy's answer: no column {err}; is it older than 2.4?") from err


def _view(answer: str) -> View:
    parts = [part.strip("\n").splitlines() for part in answer.split("\n\n") if part.strip()]
    info = dict(line.partition(": ")[::2] for line in _part(parts, "Name: "))
    state = _table(_part(parts, "1", "# be_id "))
    conn = {row["bkname/svname"]: _number(row["used_cur"]) for row in _table(_part(parts, "# bkname/svname "))}
    admin = {f"{row['be_name']}/{row['srv_name']}": row for row in state}
    rows = tuple(
        _row(stat, admin[path], conn.get(path, 0))
        for stat in _csv(_part(parts, "# pxname,"))
        if (path := f"{stat['pxname']}/{stat['svname']}") in admin
    )
    named = {row.path: row for row in rows}
    return View(info.get("Pid", ""), info.get("Start_time_sec", ""), _number(info.get("Nbproc", "1")), rows, named)


def busy(answer: str) -> dict[str, int]:
    """Requests in flight by backend/server, from the answer to BUSY."""
    return {f"{row['pxname']}/{row['svname']}": _busy(row) for row in _csv(answer.strip().splitlines())}


def old_workers(answer: str) -> list[str]:
    """Process ids of workers that a reload left to finish their requests, from `show proc` of the master."""
    _, _, old = answer.partition("# old workers")
    lines = old.partition("# programs")[0].splitlines()
    return [words[0] for line in lines if len(words := line.split()) > 1 and words[1] == "worker"]


def reading(found: View, row: Row) -> Reading:
    """This server as this process treats it."""
    state, detail = _state(row)
    out_by = ""
    if state is TrafficState.ABSENT and row.admin & OUT_BY_CONFIGURATION:
        out_by = "configuration"
    elif state is TrafficState.ABSENT and row.admin & OUT_BY_NAME_RESOLUTION:
        out_by = "name resolution"
    in_flight = row.busy + found.leftover.get(row.path, 0)
    return Reading(state, in_flight, found.generation, out_by, f"{row.path} {detail}")


def _state(row: Row) -> tuple[TrafficState, str]:
    shown = f"{row.status} {row.check_status}".strip()
    if row.admin & MAINTENANCE:
        return TrafficState.ABSENT, shown
    if row.admin & DRAIN or row.status.startswith(("DRAIN", "NOLB")):
        return TrafficState.DRAINING, shown
    if row.weight == 0:
        return TrafficState.DRAINING, f"{shown}, weight 0: clients with a cookie still come"
    if row.status.startswith("UP"):
        return _up(row, shown)
    if row.status == "no check":
        return TrafficState.HEALTHY, "no check: nothing proves it"
    if row.status.startswith("DOWN"):
        rising = "/" in row.status or (not row.tracks and row.check_status.lstrip("* ") in ("", "INI", *PASSED))
        return (TrafficState.STARTING if rising else TrafficState.UNHEALTHY), shown
    return TrafficState.UNKNOWN, f"{shown}: a status that this driver does not know"


def _up(row: Row, shown: str) -> tuple[TrafficState, str]:
    """`UP 1/n` is what a server shows that was called up without a check: only more than that is proof."""
    if row.throttle and row.throttle != "100":
        shown += f", slow start at {row.throttle} %"
    health = row.status.removeprefix("UP").strip()
    if row.tracks or not row.checked:
        return (TrafficState.STARTING if health.startswith("1/") else TrafficState.HEALTHY), shown
    if health.startswith("1/"):
        return TrafficState.STARTING, f"{shown}: no check passed since it came in, or the last one failed"
    if health:
        return TrafficState.HEALTHY, shown
    passed = row.check_status.lstrip("* ") in PASSED
    return (TrafficState.HEALTHY if passed else TrafficState.STARTING), shown


def _row(stat: Mapping[str, str], state: Mapping[str, str], used: int) -> Row:
    return Row(
        backend=stat["pxname"],
        name=stat["svname"],
        address=state["srv_addr"],
        port=_number(state["srv_port"]),
        admin=_number(state["srv_admin_state"]),
        weight=_number(state["srv_uweight"]),
        checked=_number(state["srv_check_state"]) & (CHECK_CONFIGURED | CHECK_ENABLED)
        == CHECK_CONFIGURED | CHECK_ENABLED,
        status=stat["status"],
        check_status=stat["check_status"],
        fall=_number(stat.get("check_fall", "")),
        agent=stat.get("agent_status", ""),
        tracks=stat.get("tracked", ""),
        throttle=stat.get("throttle", ""),
        busy=max(_busy(stat), used + _number(stat["qcur"])),
    )


def _busy(stat: Mapping[str, str]) -> int:
    return max(_number(stat["scur"]), _number(stat.get("used_conn_cur", ""))) + _number(stat["qcur"])


def _part(parts: Sequence[list[str]], *starts: str) -> list[str]:
    """The part whose first lines begin with `starts`."""
    for lines in parts:
        if len(lines) >= len(starts) and all(
            line.startswith(start) for line, start in zip(lines, starts, strict=False)
        ):
            return lines[len(starts) - 1 :]
    said = next(chain.from_iterable(parts), "")
    raise Unavailable(f"cannot read HAProxy's answer: it holds no part {starts[-1].strip()!r}, and begins {said!r}")


def _table(lines: Sequence[str]) -> list[dict[str, str]]:
    header = lines[0].removeprefix("# ").split(" ")
    return [dict(zip(header, line.split(" "), strict=False)) for line in lines[1:]]


def _csv(lines: Sequence[str]) -> list[dict[str, str]]:
    if not lines or not lines[0].startswith("# pxname,"):
        raise Unavailable(f"cannot read HAProxy's statistics: they begin {''.join(lines[:1])[:100]!r}")
    return list(csv.DictReader([lines[0].removeprefix("# "), *lines[1:]]))


def _number(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError as err:
        raise Unavailable(f"cannot read {text!r} in HAProxy's answer as a number") from err
