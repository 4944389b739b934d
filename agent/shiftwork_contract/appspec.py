"""The AppSpec file of the Server platform: what it may say, and what it says.

CodeDeploy's rules, with four differences that spare people a surprise: `mode: 0644` without quotes is the mode 0644,
a timeout such as `60s` is refused instead of read as 60, a context takes `user` as documented (and `name`, as built),
and nothing may climb out of the bundle. With `strict` the first two are read as CodeDeploy reads them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeVar

import msgspec

from shiftwork_contract import appspec_strict, yamlmarks
from shiftwork_contract.appspec_rules import AclEntry as AclEntry
from shiftwork_contract.appspec_rules import acl_entry, context_range
from shiftwork_contract.errors import AppSpecError, InvalidRequest
from shiftwork_contract.lifecycle import SCRIPTABLE
from shiftwork_contract.yamlmarks import Marked

APPSPEC_NAMES = ("appspec.yml", "appspec.yaml")
"""Where an AppSpec is looked for in the root of a bundle, in this order."""

DEFAULT_TIMEOUT = 3600
MAX_NAME = 255
FileExistsBehavior = Literal["DISALLOW", "OVERWRITE", "RETAIN"]
ObjectType = Literal["file", "directory"]
T = TypeVar("T")


class FileEntry(msgspec.Struct, frozen=True):
    """`source` is relative to the bundle ("" is all of it); `destination` is an absolute directory."""

    source: str
    destination: str


class Hook(msgspec.Struct, frozen=True):
    """One script of an event. `location` is relative to the bundle and stays inside it; `timeout` is in seconds."""

    location: str
    timeout: int = DEFAULT_TIMEOUT
    runas: str = ""
    sudo: bool = False


class Context(msgspec.Struct, frozen=True):
    """An SELinux context; empty parts keep what is there."""

    type: str
    user: str = ""
    range: str = ""


class Permission(msgspec.Struct, frozen=True):
    """What to set on which installed files and directories. `mode` is 3 or 4 octal digits, empty to keep it."""

    object: str
    pattern: str = "**"
    excepted: tuple[str, ...] = ()
    types: tuple[ObjectType, ...] = ("file", "directory")
    mode: str = ""
    owner: str = ""
    group: str = ""
    acls: tuple[AclEntry, ...] = ()
    context: Context | None = None


class ServerAppSpec(msgspec.Struct, frozen=True):
    """An AppSpec that keeps every rule. `hooks` has an entry per event that names scripts, custom events included;
    `warnings` say what was written and has no effect."""

    os: str = "linux"
    files: tuple[FileEntry, ...] = ()
    file_exists_behavior: FileExistsBehavior | None = None
    permissions: tuple[Permission, ...] = ()
    hooks: dict[str, tuple[Hook, ...]] = {}
    warnings: tuple[str, ...] = ()

    def hooks_for(self, event: str) -> tuple[Hook, ...]:
        """The scripts of an event in order; none for an event without scripts."""
        return self.hooks.get(event, ())


def parse_server(
    text: str | bytes, file: str = "appspec.yml", *, events: Collection[str] | None = None, strict: bool = False
) -> ServerAppSpec:
    """The AppSpec in `text`. Raises AppSpecError that names the first problem's place and lists the others.

    A hook name that is no lifecycle event is a warning; with `events` it is an error unless listed there.
    """
    root = yamlmarks.parse(text, file, error=AppSpecError, lenient=strict)
    if root is None or root.is_null:
        raise AppSpecError("the AppSpec is empty; it needs at least `version: 0.0` and `os: linux`", file=file)
    return _Reader(root, events, strict).read()


def appspec_name(name: str) -> str:
    """`name`, if an AppSpec may be called so: a path inside the bundle. Raises InvalidRequest otherwise."""
    parts = name.split("/")
    if len(name) > MAX_NAME or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequest(
            f"cannot use {name[:80]!r} as the name of an AppSpec: it is a path inside the bundle, of at most"
            f" {MAX_NAME} characters, such as appspec.staging.yml",
            code="InvalidAppSpecName",
        )
    return name


class _Reader:
    """Reads section by section, and collects one problem from each before it gives up."""

    def __init__(self, root: Marked, events: Collection[str] | None, strict: bool) -> None:
        self.root, self.members, self.strict = root, root.mapping(), strict
        self.allowed = events
        self.problems: list[AppSpecError] = []
        self.warnings: list[str] = []

    def read(self) -> ServerAppSpec:
        self._try("version", self._version, None)
        found = ServerAppSpec(
            os=self._try("os", self._os, ""),
            files=self._try("files", _files, ()),
            file_exists_behavior=self._try("file_exists_behavior", _exists, None),
            permissions=self._try("permissions", self._permissions, ()),
            hooks=self._try("hooks", self._hooks, {}),
        )
        self._raise_problems()
        known = {"version", "os", "files", "file_exists_behavior", "permissions", "hooks"}
        self.warnings += [_noted(m, f"`{k}` has no effect") for k, m in self.members.items() if k not in known]
        return msgspec.structs.replace(found, warnings=tuple(self.warnings))

    def _try(self, key: str, read: Callable[[Marked], T], absent: T) -> T:
        marked = self.members.get(key)
        try:
            if marked is None or (marked.is_null and key not in ("version", "os", "file_exists_behavior")):
                return self._absent(key, absent)
            return read(marked)
        except AppSpecError as err:
            self.problems.append(err)
            return absent

    def _absent(self, key: str, absent: T) -> T:
        if key == "version":
            raise self.root.fail("`version` is missing; add `version: 0.0`")
        if key == "os":
            raise self.root.fail("`os`, the operating system, is missing; add `os: linux`")
        return absent

    def _raise_problems(self) -> None:
        if not self.problems:
            return
        first, *others = sorted(self.problems, key=lambda p: (p.line, p.column))
        also = "".join(f"; line {p.line}: {p.problem}" for p in others)
        raise AppSpecError(first.problem + also, file=first.file, line=first.line, column=first.column)

    def _version(self, marked: Marked) -> None:
        value = marked.scalar()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise marked.fail(f"`version` must be the number 0.0 without quotes, not {marked.shown}")
        if value != 0:
            raise marked.fail(f"`version` {marked.text()} is not supported; the only version is 0.0")

    def _os(self, marked: Marked) -> str:
        if marked.is_null or marked.text() != "linux":
            raise marked.fail(f"`os`, the operating system, must be `linux`, not {marked.shown}")
        return "linux"

    def _permissions(self, marked: Marked) -> tuple[Permission, ...]:
        return tuple(self._permission(item) for item in marked.items())

    def _permission(self, marked: Marked) -> Permission:
        members = {key: member for key, member in marked.mapping().items() if not member.is_null}
        optional = {key: m.text() for key, m in members.items() if key in ("owner", "group", "pattern")}
        return Permission(
            object=_required(marked, members, "object"),
            excepted=tuple(members["except"].texts()) if "except" in members else (),
            types=_types(members["type"]) if "type" in members else ("file", "directory"),
            mode=self._mode(members["mode"]) if "mode" in members else "",
            acls=tuple(_acl(m) for m in members["acls"].items()) if "acls" in members else (),
            context=self._context(members["context"]) if "context" in members else None,
            **optional,
        )

    def _context(self, marked: Marked) -> Context:
        members = marked.mapping()
        if "role" in members:
            self.warnings.append(_noted(members["role"], f"`{members['role'].path}` has no effect"))
        if "type" not in members:
            raise marked.fail(f"`{marked.path}`: an SELinux context needs `type`, such as httpd_sys_content_t")
        user = members.get("user") or members.get("name")
        level = members.get("range")
        try:
            checked = context_range(level.text()) if level else ""
        except ValueError as err:
            raise (level or marked).fail(str(err)) from err
        return Context(type=members["type"].text(), user=user.text() if user else "", range=checked)

    def _mode(self, marked: Marked) -> str:
        return appspec_strict.mode(marked) if self.strict else _mode(marked)

    def _hook(self, marked: Marked) -> Hook:
        members = {key: member for key, member in marked.mapping().items() if not member.is_null}
        timeout, sudo, runas = members.get("timeout"), members.get("sudo"), members.get("runas")
        seconds, truth = (appspec_strict.timeout, appspec_strict.truth) if self.strict else (_timeout, _sudo)
        return Hook(
            location=_location(marked, members),
            timeout=seconds(timeout) if timeout else DEFAULT_TIMEOUT,
            runas=runas.text().strip() if runas else "",
            sudo=truth(sudo) if sudo else False,
        )

    def _hooks(self, marked: Marked) -> dict[str, tuple[Hook, ...]]:
        hooks = {}
        for event, scripts in marked.mapping().items():
            if self.allowed is not None and event not in self.allowed:
                raise scripts.fail(
                    f"`{event}` is not among the lifecycle events of this deployment: {_listed(self.allowed)}"
                )
            if self.allowed is None and event not in SCRIPTABLE:
                self.warnings.append(_noted(scripts, f"`hooks.{event}` has no effect: no script runs at {event}"))
            hooks[event] = tuple(self._hook(item) for item in scripts.items())
        return {event: scripts for event, scripts in hooks.items() if scripts}


def _sudo(marked: Marked) -> bool:
    value = marked.scalar()
    if not isinstance(value, bool | None):
        raise marked.fail(f"`{marked.path}` must be true or false without quotes, not {marked.shown}")
    return bool(value)


def _location(marked: Marked, members: dict[str, Marked]) -> str:
    written = _required(marked, members, "location").strip()
    return _inside(members["location"], written)


def _timeout(marked: Marked) -> int:
    text = marked.text()
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise marked.fail(f"`{marked.path}`, a timeout, must be a whole number of seconds above 0, not {marked.shown}")
    return int(text)


def _files(marked: Marked) -> tuple[FileEntry, ...]:
    return tuple(_file(item) for item in marked.items())


def _file(marked: Marked) -> FileEntry:
    members = marked.mapping()
    source, destination = (_required(marked, members, key, empty=key == "source") for key in ("source", "destination"))
    if not destination.startswith("/"):
        raise members["destination"].fail(f"`{marked.path}.destination` must be an absolute path, not {destination!r}")
    if "\0" in destination or ".." in destination.split("/"):
        raise members["destination"].fail(f"`{marked.path}.destination` must not contain `..`: {destination!r}")
    return FileEntry(
        source=_inside(members["source"], source), destination=posixpath.normpath("/" + destination.strip("/"))
    )


def _inside(marked: Marked, path: str) -> str:
    cleaned = posixpath.normpath(path.strip("/") or ".")
    if "\0" in cleaned or cleaned == ".." or cleaned.startswith("../"):
        raise marked.fail(f"`{marked.path}` {path!r} leaves the bundle; name something inside it")
    return "" if cleaned == "." else cleaned


def _exists(marked: Marked) -> FileExistsBehavior:
    known: dict[str, FileExistsBehavior] = {"DISALLOW": "DISALLOW", "OVERWRITE": "OVERWRITE", "RETAIN": "RETAIN"}
    if marked.is_null or marked.text() not in known:
        raise marked.fail(
            f"`file_exists_behavior` must be DISALLOW, OVERWRITE or RETAIN in capitals, not {marked.shown}"
        )
    return known[marked.text()]


def _types(marked: Marked) -> tuple[ObjectType, ...]:
    known: dict[str, ObjectType] = {"file": "file", "directory": "directory"}
    try:
        return tuple(known[text] for text in marked.texts()) or ("file", "directory")
    except KeyError as err:
        raise marked.fail(f"`{marked.path}` must be a list of file and directory, not {err}") from err


def _mode(marked: Marked) -> str:
    text = marked.text()
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise marked.fail(f"`{marked.path}` must be one to four octal digits such as 644 or 0644, not {marked.shown}")
    return text.rjust(3, "0")


def _acl(marked: Marked) -> AclEntry:
    try:
        return acl_entry(marked.text())
    except ValueError as err:
        raise marked.fail(f"`{marked.path}`: {err}") from err


def _required(marked: Marked, members: dict[str, Marked], key: str, *, empty: bool = False) -> str:
    member = members.get(key)
    if member is None or member.is_null:
        raise (member or marked).fail(f"`{marked.path}` needs `{key}`")
    text = member.text()
    if not text.strip() and not empty:
        raise member.fail(f"`{member.path}` must not be empty")
    return text


def _noted(marked: Marked, message: str) -> str:
    return f"{marked.file}:{marked.node.start_mark.line + 1}: {message}"


def _listed(names: Collection[Any]) -> str:
    return ", ".join(str(name) for name in names)


__all__ = [
    "APPSPEC_NAMES", "AclEntry", "AppSpecError", "Context", "FileEntry", "FileExistsBehavior", "Hook", "InvalidRequest",
    "Permission", "ServerAppSpec", "appspec_name", "parse_server",
]  # fmt: skip
