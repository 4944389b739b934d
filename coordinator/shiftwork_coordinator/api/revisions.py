"""Revisions: pushed by people, fetched by agents."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path

import msgspec
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.revision import BundleType, Signed
from shiftwork_contract.statement import facts
from shiftwork_coordinator.api.server import body, caller, reply, services
from shiftwork_coordinator.model.rows import StoredRevision
from shiftwork_coordinator.pki import NAME
from shiftwork_coordinator.pushing import Push, attach, keep, refuse_unknown

PIECE = 1 << 20
UPLOAD_LIMIT = 4 << 30
"""Bytes of one archive."""


async def push(request: web.Request) -> web.Response:
    """The body is the archive, streamed to disk before anything looks at it."""
    found = services(request)
    asked = _asked(request)
    await refuse_unknown(found.home.store, asked.application)
    temporary = found.bundles.temporary()
    try:
        await received(request, temporary, UPLOAD_LIMIT)
        row, new, warnings = await keep(found.home, found.bundles, temporary, asked, caller(request).who)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    view = {"revision": row.revision.identity, "size": row.size, "entries": row.entries, "new": new}
    return reply({**view, "warnings": warnings}, status=201 if new else 200)


async def received(request: web.Request, temporary: Path, limit: int) -> None:
    """Writes the body to disk. Raises InvalidRequest past `limit` bytes, Unavailable when the disk is full."""
    size = request.content_length or 0
    try:
        with temporary.open("xb") as file:
            async for piece in request.content.iter_chunked(PIECE):
                size = max(size, file.tell() + len(piece))
                if size > limit:
                    raise InvalidRequest(f"cannot push an archive of more than {limit} bytes", code="TooLarge")
                await asyncio.to_thread(file.write, piece)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable("cannot keep the archive: the coordinator's disk is full; make room there") from err


def _asked(request: web.Request) -> Push:
    query = request.query
    kinds = [kind.value for kind in BundleType if kind is not BundleType.DIRECTORY]
    kind = query.get("type", "tgz")
    if kind not in kinds:
        raise InvalidRequest(f"cannot push a {kind!r}: the type is one of {', '.join(kinds)}")
    if not query.get("application"):
        raise InvalidRequest("cannot push without an application: add ?application=NAME")
    if not NAME.fullmatch(query["application"]):
        raise InvalidRequest(
            f"cannot push to the application {query['application'][:80]!r}: a name has 1 to 63 letters, digits, dots,"
            " underscores and hyphens, and begins with a letter or digit"
        )
    return Push(query["application"], BundleType(kind), query.get("description", ""), query.get("appspec", ""))


async def sign(request: web.Request) -> web.Response:
    """Keeps a signature with a pushed revision, in place of the one it had."""
    home, application = services(request).home, request.query.get("application", "")
    given = await body(request, Signed)
    row = await attach(home, application, request.match_info["identity"], given, caller(request).who)
    return reply({"revision": row.revision.identity, "signed": msgspec.to_builtins(facts(given))})


async def listed(request: web.Request) -> web.Response:
    rows = await services(request).home.store.revisions(request.query.get("application") or None)
    return reply({"revisions": [_view(row) for row in rows]})


def _view(row: StoredRevision) -> dict[str, object]:
    signed = row.revision.signed
    return {**msgspec.to_builtins(row), "signed": msgspec.to_builtins(facts(signed)) if signed else None}


async def bundle(request: web.Request) -> web.StreamResponse:
    """The archive as it was pushed; ranges are honoured, so that an agent resumes after a cut.

    One that lies outside (`?url=`) is answered with the address where it can be read: agents go there themselves.
    """
    if url := request.query.get("url"):
        return await _elsewhere(request, url)
    path = services(request).bundles.path(request.match_info["identity"])
    if not path.is_file():
        raise InvalidRequest(f"cannot find the bundle {request.match_info['identity']}", code="NotFound")
    return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})


async def _elsewhere(request: web.Request, url: str) -> web.Response:
    sources = services(request).home.sources
    if sources is None:
        raise InvalidRequest(f"cannot show {url}: this coordinator reaches no places outside", code="NotFound")
    location = await sources.location(request.match_info["identity"], url)
    return web.Response(status=307, headers={"Location": location, "Cache-Control": "no-store"})
