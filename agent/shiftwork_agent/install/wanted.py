"""What an AppSpec wants installed: its `files` spread over the bundle's tree, each with the look it is to get."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

from shiftwork_agent.install.model import Kind, Look, Thing
from shiftwork_contract.appspec import Permission, ServerAppSpec
from shiftwork_contract.archive_limits import Limits
from shiftwork_contract.errors import InvalidRequest

Listing = Mapping[str, Thing]
"""The bundle: path relative to its root -> what is there. The root itself is not in it."""

IMPLIED_MODE = 0o755


class Wanted(msgspec.Struct, frozen=True):
    """`path` is where it goes on the host, `written` the same as the AppSpec spells it. An implied directory has no
    `source`: it is only on the way, or the destination itself."""

    path: str
    written: str
    kind: Kind
    source: str = ""
    mode: int = IMPLIED_MODE
    look: Look = Look()


class Accounts:
    """User and group ids by name. A fake stands in for it where the host's accounts do not matter."""

    def uid(self, name: str) -> int:
        import pwd

        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid

    def gid(self, name: str) -> int:
        import grp

        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def wanted(
    appspec: ServerAppSpec, listing: Listing, resolve: Callable[[str], str], accounts: Accounts
) -> dict[str, Wanted]:
    """All paths to be there after the install, parents before children. `resolve` follows trusted links on the way to
    a destination. Raises InvalidRequest for what no host could install."""
    found: dict[str, Wanted] = {}
    for entry in appspec.files:
        _refuse_too_deep(entry.destination)
        destination = resolve(entry.destination)
        for one in _spread(entry.source, entry.destination, destination, listing):
            _add(found, one)
    looks = _looks(appspec.permissions, {one.written: one for one in found.values()}, accounts)
    return {
        path: msgspec.structs.replace(found[path], look=looks.get(found[path].written, Look()))
        for path in sorted(found, key=lambda p: p.split("/"))
    }


def _refuse_too_deep(destination: str) -> None:
    limit = Limits().depth
    if (deep := destination.strip("/").count("/") + 1) > limit:
        raise InvalidRequest(f"cannot install to {destination[:80]}…: it is {deep} levels deep, the limit is {limit}")


def _spread(source: str, written: str, destination: str, listing: Listing) -> list[Wanted]:
    spread = [Wanted(path, path, "dir") for path in _ancestors(destination)]
    spread.append(Wanted(destination, written, "dir"))
    thing = listing.get(source) if source else Thing("dir")
    if thing is None:
        hint = "; wildcards are not expanded, name a file or a directory" if "*" in source else ""
        raise InvalidRequest(
            f"cannot install {source!r}: the bundle has nothing by that name{hint}", code="MissingSource"
        )
    if thing.kind != "dir":
        return [*spread, _one(source, posixpath.basename(source), written, destination, thing)]
    prefix = f"{source}/" if source else ""
    inside = [(p, t) for p, t in listing.items() if p.startswith(prefix)]
    return spread + [_one(p, p[len(prefix) :], written, destination, t) for p, t in inside]


def _one(source: str, name: str, written: str, destination: str, thing: Thing) -> Wanted:
    if thing.kind == "other":
        raise InvalidRequest(f"cannot install {source!r}: it is no file, directory or link")
    return Wanted(posixpath.join(destination, name), posixpath.join(written, name), thing.kind, source, thing.mode)


def _ancestors(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:end]) for end in range(1, len(parts))]


def _add(found: dict[str, Wanted], one: Wanted) -> None:
    before = found.get(one.path)
    if before is None or (before.kind == one.kind == "dir" and not before.source):
        found[one.path] = one
    elif not (before.kind == one.kind == "dir"):
        raise InvalidRequest(
            f"cannot install {one.source or 'a directory'!r} to {one.path}: {before.source or 'a directory'!r} has the"
            " same destination; change `files` so that each path is installed once",
            code="SameDestination",
        )


def _looks(permissions: tuple[Permission, ...], written: dict[str, Wanted], accounts: Accounts) -> dict[str, Look]:
    looks: dict[str, Look] = {}
    by: dict[str, str] = {}
    for permission in permissions:
        look = _look(permission, accounts)
        for path in _matched(permission, written):
            if path in looks:
                raise InvalidRequest(
                    f"cannot set permissions of {path}: the objects {by[path]} and {permission.object} both match it;"
                    " narrow one of them with `pattern`, `except` or `type`"
                )
            looks[path], by[path] = look, permission.object
    return looks


def _look(permission: Permission, accounts: Accounts) -> Look:
    return Look(
        mode=int(permission.mode, 8) if permission.mode else None,
        uid=_account("owner", permission.owner, accounts.uid, permission.object),
        gid=_account("group", permission.group, accounts.gid, permission.object),
        acls=tuple(str(entry) for entry in permission.acls),
        context=permission.context,
    )


def _account(what: str, name: str, look_up: Callable[[str], int], of: str) -> int | None:
    if not name:
        return None
    try:
        return look_up(name)
    except KeyError as err:
        raise InvalidRequest(
            f"cannot set the {what} of {of}: this host has no {'user' if what == 'owner' else 'group'} {name!r};"
            " create it in a BeforeInstall script or change the AppSpec",
            code="UnknownAccount",
        ) from err


def _matched(permission: Permission, written: dict[str, Wanted]) -> list[str]:
    target = posixpath.normpath(permission.object)
    one = written.get(target)
    if one is not None and one.kind != "dir":
        _refuse_on_file(permission, target)
        return [target] if "file" in permission.types else []
    prefix = target.rstrip("/") + "/"
    return [
        path
        for path, below in written.items()
        if path.startswith(prefix)
        and ("directory" if below.kind == "dir" else "file") in permission.types
        and _matches(permission.pattern, path[len(prefix) :])
        and not any(_matches(excepted, path[len(prefix) :]) for excepted in permission.excepted)
    ]


def _refuse_on_file(permission: Permission, path: str) -> None:
    wrong = [
        name
        for name, given in (
            ("pattern", permission.pattern != "**"),
            ("except", bool(permission.excepted)),
            ("type: directory", permission.types == ("directory",)),
            ("default ACL entries", any(entry.default for entry in permission.acls)),
        )
        if given
    ]
    if wrong:
        raise InvalidRequest(f"cannot use {' and '.join(wrong)} for {path}: it is a file; these need a directory")


def _matches(pattern: str, path: str) -> bool:
    """`**` alone matches at any depth; a pattern without a slash matches direct children, as in CodeDeploy."""
    return pattern == "**" or _expression(pattern).fullmatch(path) is not None


@lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern.strip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)
