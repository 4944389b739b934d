"""The tree that an archive unpacks to: its digest, its AppSpec, and the directory taken off around all of it."""

from __future__ import annotations

from collections.abc import Callable

from shiftwork_contract.archive_read import Member, Piece
from shiftwork_contract.revision import TreeEntry, tree_digest
from shiftwork_contract.yamlmarks import MAX_BYTES

IMPLIED_MODE = 0o755
"""Of a directory that an archive does not list, only fills."""


class Tree:
    """Collects entries one by one. Equal trees have equal identities, whatever archive they came in."""

    def __init__(self, appspec_names: tuple[str, ...]) -> None:
        self.size = 0
        self._names = [name.encode() for name in appspec_names]
        self._entries: dict[bytes, TreeEntry] = {}
        self._sizes: dict[bytes, int] = {}
        self._texts: dict[bytes, bytearray] = {}
        self._tops: set[bytes] = set()

    def keeper(self, member: Member) -> Callable[[Piece], None]:
        """Called with each piece of a file's content: counts it, and keeps the text of what may be the AppSpec."""
        text = bytearray()
        top, _, rest = member.path.partition(b"/")
        candidate = member.path in self._names or (rest in self._names and self._tops <= {top})
        if candidate and member.kind == "file":
            self._texts[member.path] = text
        self._sizes[member.path] = 0

        def keep(piece: Piece) -> None:
            self._sizes[member.path] += len(piece)
            if candidate and len(text) <= MAX_BYTES:
                text.extend(piece)

        return keep

    def add(self, member: Member, content: str) -> None:
        """`content` is the sha256 of a file's bytes in hex; it is not looked at for other kinds."""
        path = member.path
        self._tops.add(path.partition(b"/")[0])
        self._add_parents(path)
        if member.kind == "link":
            self._entries[path] = TreeEntry(path, "link", 0o777, member.target)
        elif member.kind == "dir":
            self._entries[path] = TreeEntry(path, "dir", member.mode, b"")
        elif member.kind == "hardlink":
            first = self._entries[member.target]
            self._entries[path] = TreeEntry(path, "file", first.mode, first.content)
            self._sizes[path] = self._sizes[member.target]
            self.size += self._sizes[path]
        else:
            self._entries[path] = TreeEntry(path, "file", member.mode, content.encode())
            self.size += self._sizes[path]

    def top(self) -> bytes:
        """The directory that everything is in, to be taken off; empty when there is none.

        Always, whatever it holds: which AppSpec is to be used is known only later, and where an archive comes from
        must not make another revision of it. An archive of GitHub's has such a directory, named for the commit.
        """
        if len(self._tops) != 1:
            return b""
        (top,) = self._tops
        return top if self._entries[top].kind == "dir" and len(self._entries) > 1 else b""

    def entries(self) -> list[TreeEntry]:
        """All entries, in no particular order, without the top-level directory that is taken off."""
        top = self.top()
        if not top:
            return list(self._entries.values())
        cut = len(top) + 1
        return [TreeEntry(e.path[cut:], e.kind, e.mode, e.content) for e in self._entries.values() if e.path != top]

    def identity(self) -> str:
        return tree_digest(self.entries())

    def appspec(self) -> tuple[str, bytes] | None:
        """Name and text of the AppSpec; a link by that name is not one."""
        top = self.top()
        for name in self._names:
            path = top + b"/" + name if top else name
            if path in self._texts and self._is_file(path):
                return name.decode(), bytes(self._texts[path])
        return None

    def _is_file(self, path: bytes) -> bool:
        entry = self._entries.get(path)
        return entry is not None and entry.kind == "file"

    def _add_parents(self, path: bytes) -> None:
        end = path.rfind(b"/")
        while end != -1 and path[:end] not in self._entries:
            self._entries[path[:end]] = TreeEntry(path[:end], "dir", IMPLIED_MODE, b"")
            end = path.rfind(b"/", 0, end)
