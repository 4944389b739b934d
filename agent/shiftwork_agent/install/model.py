"""What an install knows and writes down: things on disk, instructions, and what a group owns."""

from __future__ import annotations

from typing import Literal

import msgspec

from shiftwork_contract.appspec import Context

FORMAT = 1
Kind = Literal["file", "link", "dir"]


class Thing(msgspec.Struct, frozen=True):
    """What lies at a path of the host, or in a bundle. `mode` holds permission bits only."""

    kind: Literal["file", "link", "dir", "other"]
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `permissions` asks for; None and empty mean: as it comes."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    acls: tuple[str, ...] = ()
    context: Context | None = None


class Owned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path that a deployment group has installed. `original` names the saved copy of the foreign thing that was
    there before, to be put back when the group gives the path up."""

    path: str
    kind: Kind
    original: str = ""


class Put(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something new at `path`: made at `staged` first, then renamed into place when `swap`, else it gets there with
    the directory it lies in. What was at `path` is kept at `aside` until the install is complete.

    `source` is relative to the bundle, `original` names a saved copy to put back instead; `save` is the name under
    which the foreign thing at `path` is copied first.
    """

    path: str
    kind: Kind
    staged: str
    swap: bool = True
    aside: str = ""
    source: str = ""
    original: str = ""
    save: str = ""
    mode: int = 0o755
    look: Look = Look()


class Drop(msgspec.Struct, frozen=True):
    """A file or link of the former revision that the new one lacks; kept at `aside` until the install is complete."""

    path: str
    aside: str


class Adjust(msgspec.Struct, frozen=True):
    """A directory that both revisions have gets a new look; `before` is what a way back needs."""

    path: str
    look: Look
    before: Thing


class Plan(msgspec.Struct, frozen=True):
    """All an install does, in order. `leave` are directories to remove at the very end, deepest first, if empty."""

    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    adjusts: tuple[Adjust, ...] = ()
    leave: tuple[str, ...] = ()
    owned: tuple[Owned, ...] = ()


class Installed(msgspec.Struct, frozen=True, rename="camel"):
    """`installed.json`: what a group has on this host. `appspec` and `compat` are the command's that installed it: the
    scripts that stop this revision are found with them. `group` is APPLICATION/GROUP, for people."""

    format: int
    group_id: str
    installed: str = ""
    installed_by: str = ""
    last_sequence: int = 0
    owned: tuple[Owned, ...] = ()
    appspec: str = ""
    compat: str = ""
    group: str = ""


class Change(msgspec.Struct, frozen=True, rename="camel"):
    """`change.json`: an install under way, written whole before the first change."""

    format: int
    bundle: str
    plan: Plan
    after: Installed
