"""Revisions: where one lies, and the digest that pins it.

A revision is pinned when a deployment is created: from then on every host verifies the same digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from shiftwork_contract.errors import InvalidRequest

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class BundleType(StrEnum):
    TAR = "tar"
    TGZ = "tgz"
    ZIP = "zip"
    DIRECTORY = "directory"


class Signed(msgspec.Struct, frozen=True, rename="camel"):
    """A signature over a revision: `statement` is the very text that was signed, `signature` an armored SSHSIG."""

    statement: str
    signature: str


class Revision(msgspec.Struct, frozen=True, rename="camel"):
    """A pinned revision as it travels to agents.

    `identity` names the content: `sha256:` of the unpacked tree (`digest_of == "tree"`, see `tree_digest`) for what
    was pushed, of the archive's bytes for what lies elsewhere. `url` is `coordinator:` (ask the coordinator's own
    store for `identity`), `https://…`, `file:///…`, `s3://bucket/key[?versionId=…]` or `github:owner/repo@commit`.
    `archive_sha256` is hex, without prefix; `etag` is an S3 object's, without quotes.
    """

    identity: str
    url: str
    digest_of: Literal["tree", "archive"] = "tree"
    bundle_type: BundleType = BundleType.TGZ
    archive_sha256: str = ""
    size: int = 0
    etag: str = ""
    signed: Signed | None = None


class TreeEntry(msgspec.Struct, frozen=True):
    """One entry of an unpacked bundle. `path` is relative, `/`-separated. `content` is the sha256 of a file in hex,
    the target of a link, empty for a directory. `mode` holds permission bits only (0o7777)."""

    path: bytes
    kind: Literal["file", "dir", "link"]
    mode: int
    content: bytes


def tree_digest(entries: Iterable[TreeEntry]) -> str:
    """`sha256:…` over paths, kinds, modes and contents: equal for equal trees, whatever archive they came in.

    Owner and mtime are left out: they differ between two checkouts of the same commit. A link's mode is left out too.
    """
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.path):
        mode = 0 if entry.kind == "link" else entry.mode
        digest.update(b"%s\0%s\0%o\0%s\n" % (entry.path, entry.kind.encode(), mode, entry.content))
    return f"sha256:{digest.hexdigest()}"


def parse_reference(text: str) -> Revision | str:
    """What a user may write after `--revision`.

    Returns the digest itself for a pushed revision (`sha256:…`), else a pinned `Revision`.
    Raises InvalidRequest for anything that can change under the same name.
    """
    if DIGEST.fullmatch(text):
        return text
    if text.startswith(("sha256:", "SHA256:")):
        raise InvalidRequest(
            f"cannot use revision {text!r}: a digest is `sha256:` and 64 lower-case hex digits, this has"
            f" {len(text) - 7}; copy the id that `shiftwork push` printed",
            code="InvalidRevision",
        )
    parts = urlsplit(text)
    if parts.scheme in ("https", "file"):
        return _elsewhere(text, parts.fragment)
    raise InvalidRequest(
        f"cannot use revision {text!r}: it is none of sha256:…, s3://bucket/key, github:owner/repo@commit,"
        " https://…#sha256=…, file:///…#sha256=…;"
        " run `shiftwork push DIR --application APP` and use the id it prints",
        code="InvalidRevision",
    )


def _elsewhere(text: str, fragment: str) -> Revision:
    match = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
    if not match:
        raise InvalidRequest(
            f"cannot use revision {text!r}: what lies there can change under the same name;"
            " append #sha256=<64 hex digits of the archive>",
            code="InvalidRevision",
        )
    url = text.partition("#")[0]
    return Revision(
        identity=f"sha256:{match[1]}",
        url=url,
        digest_of="archive",
        bundle_type=bundle_type(url),
        archive_sha256=match[1],
    )


def bundle_type(name: str) -> BundleType:
    """The archive type that a file name stands for. Raises InvalidRequest for an unknown one."""
    path = urlsplit(name).path if "://" in name else name
    for suffix, kind in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    raise InvalidRequest(f"cannot tell the archive type of {name!r}: it must end in {', '.join(_SUFFIXES)}")


_SUFFIXES = {
    ".tar": BundleType.TAR,
    ".tgz": BundleType.TGZ,
    ".tar.gz": BundleType.TGZ,
    ".zip": BundleType.ZIP,
}
