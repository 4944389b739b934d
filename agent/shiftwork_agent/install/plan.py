"""From what is wanted, what is owned and what is there to instructions. Pure: asks about the host, changes nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Protocol

from shiftwork_agent.install.model import Adjust, Drop, Look, Owned, Plan, Put, Thing
from shiftwork_agent.install.wanted import Wanted
from shiftwork_contract.errors import InvalidRequest

BEHAVIORS = ("DISALLOW", "OVERWRITE", "RETAIN")


class Host(Protocol):
    """What the plan may ask. Links are looked at, never followed."""

    def look(self, path: str) -> Thing | None: ...
    def below(self, path: str) -> list[str]:
        """All paths below a directory."""
        ...


Whose = Callable[[str], str]
"""Which other deployment group has installed what is at a path, in words; empty for none. Asked for refusals alone."""


def plan(
    wanted: Mapping[str, Wanted],
    owned: Mapping[str, Owned],
    host: Host,
    behavior: str,
    token: str,
    *,
    keep_originals: bool = True,
    whose: Whose = lambda path: "",
) -> Plan:
    """Raises InvalidRequest when anything foreign is in the way; then nothing has been touched.

    `behavior` counts where a foreign file is in the way, and nowhere else. `token` makes the names of staged things
    unique to this install. Without `keep_originals` a foreign file that is overwritten never comes back.
    """
    planner = _Planner(owned, host, behavior, token, keep_originals, whose)
    for one in wanted.values():
        if one.kind == "dir":
            planner.directory(one)
        else:
            planner.leaf(one)
    return planner.finish()


class _Planner:
    def __init__(
        self,
        owned: Mapping[str, Owned],
        host: Host,
        behavior: str,
        token: str,
        keep_originals: bool,
        whose: Whose,
    ) -> None:
        self._owned, self._host, self._behavior, self._token = owned, host, behavior, token
        self._keep_originals, self._whose = keep_originals, whose
        self._puts: list[Put] = []
        self._drops: list[Drop] = []
        self._adjusts: list[Adjust] = []
        self._after: dict[str, Owned] = {}
        self._new: dict[str, str] = {}
        """New directories: final path -> where it is being made."""
        self._gone: list[str] = []
        """Former directories that are replaced with all they hold."""
        self._count = 0

    def directory(self, one: Wanted) -> None:
        inside = self._inside(one.path)
        here = None if inside else self._host.look(one.path)
        mine = self._owned.get(one.path)
        if here is not None and here.kind == "dir":
            if mine is not None and mine.kind == "dir":
                self._own(one, "")
                if one.look != Look():
                    self._adjusts.append(Adjust(one.path, one.look, here))
            return
        if here is not None and (mine is None or mine.kind == "dir"):
            raise self._in_the_way(one, f"{_A[here.kind]} is there", one.path)
        put = self._put(one, inside, replaces=here is not None)
        self._new[one.path] = put.staged
        self._own(one, mine.original if mine else "")

    def leaf(self, one: Wanted) -> None:
        inside = self._inside(one.path)
        here = None if inside else self._host.look(one.path)
        mine = self._owned.get(one.path)
        if here is None:
            self._put(one, inside, replaces=False)
        elif here.kind == "dir":
            self._over_directory(one)
        elif here.kind == "other":
            raise self._in_the_way(one, f"{_A[here.kind]} is there", one.path)
        elif mine is not None and mine.kind != "dir":
            self._put(one, inside, replaces=True)
        elif not self._over_foreign(one):
            return
        self._own(one, mine.original if mine else self._puts[-1].save)

    def finish(self) -> Plan:
        leave = []
        self._restore_under_directories()
        for path in sorted(self._owned, key=lambda p: p.split("/"), reverse=True):
            former = self._owned[path]
            if path in self._after or any(path == gone or path.startswith(gone + "/") for gone in self._gone):
                continue
            if former.kind == "dir":
                leave.append(path)
            else:
                self._give_up(former)
        owned = tuple(self._after[path] for path in sorted(self._after))
        return Plan(tuple(self._puts), tuple(self._drops), tuple(self._adjusts), tuple(leave), owned)

    def _restore_under_directories(self) -> None:
        """A foreign file whose place a directory had taken comes back if nothing else needs the place."""
        for path, former in self._owned.items():
            if former.kind != "dir" or not former.original or path in self._after:
                continue
            below = self._host.below(path)
            if all(inside in self._owned and inside not in self._after for inside in below):
                self._gone.append(path)
                self._restore(former)

    def _restore(self, former: Owned) -> None:
        staged, aside = self._names(former.path)
        self._puts.append(Put(former.path, "file", staged, aside=aside, original=former.original))

    def _give_up(self, former: Owned) -> None:
        here = self._host.look(former.path)
        if here is None or here.kind in ("dir", "other"):
            return
        if former.original:
            self._restore(former)
        else:
            self._drops.append(Drop(former.path, self._names(former.path)[1]))

    def _over_directory(self, one: Wanted) -> None:
        mine = self._owned.get(one.path)
        foreign = [path for path in self._host.below(one.path) if path not in self._owned]
        if mine is None or mine.kind != "dir" or foreign:
            problem = (
                f"a directory with foreign files such as {foreign[0]} is there" if foreign else "a directory is there"
            )
            raise self._in_the_way(one, problem, foreign[0] if foreign else one.path)
        self._gone.append(one.path)
        self._put(one, "", replaces=True)

    def _over_foreign(self, one: Wanted) -> bool:
        """False when the foreign file stays."""
        if self._behavior not in BEHAVIORS:
            raise InvalidRequest(
                f"cannot install {one.source!r}: {one.path} already exists, and file_exists_behavior is"
                f" {self._behavior!r}; it must be {', '.join(BEHAVIORS[:-1])} or {BEHAVIORS[-1]}",
                code="InvalidFileExistsBehavior",
            )
        if self._behavior == "RETAIN":
            return False
        if self._behavior != "OVERWRITE":
            raise self._exists(one)
        self._put(one, "", replaces=True, save=self._keep_originals)
        return True

    def _exists(self, one: Wanted) -> InvalidRequest:
        whose = self._whose(one.path)
        why = (
            f"and {whose} has installed it; change"
            if whose
            else "and this deployment group has not installed it; remove"
        )
        what = "the destination in one of the two" if whose else "it"
        return InvalidRequest(
            f"cannot install {one.source!r}: {one.path} already exists {why} {what}, or set file_exists_behavior to"
            " OVERWRITE or RETAIN",
            code="FileExists",
        )

    def _in_the_way(self, one: Wanted, what: str, path: str) -> InvalidRequest:
        """`path` is what is foreign."""
        whose = self._whose(path)
        by = f" ({whose} has installed it)" if whose else ""
        return InvalidRequest(
            f"cannot install {one.source or one.path!r} to {one.path}: {what}{by}, and a {one.kind} is to be installed;"
            " remove what is there or change the destination",
            code="FileExists",
        )

    def _put(self, one: Wanted, inside: str, *, replaces: bool, save: bool = False) -> Put:
        staged, aside = self._names(one.path)
        put = Put(
            path=one.path,
            kind=one.kind,
            staged=inside or staged,
            swap=not inside,
            aside=aside if replaces else "",
            source=one.source,
            save=f"{self._token}-{self._count}" if save else "",
            mode=one.mode,
            look=one.look,
        )
        self._puts.append(put)
        return put

    def _own(self, one: Wanted, original: str) -> None:
        self._after[one.path] = Owned(one.path, one.kind, original)

    def _inside(self, path: str) -> str:
        """Where `path` is made when its directory is new itself; empty otherwise."""
        parent, name = posixpath.split(path)
        return f"{self._new[parent]}/{name}" if parent in self._new else ""

    def _names(self, path: str) -> tuple[str, str]:
        self._count += 1
        staged = posixpath.join(posixpath.dirname(path), f".shiftwork-{self._token}-{self._count}")
        return staged, f"{staged}.former"


_A = {"file": "a file", "link": "a link", "dir": "a directory", "other": "a device, socket or FIFO"}
