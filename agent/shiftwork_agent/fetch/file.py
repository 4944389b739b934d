"""A bundle that lies on the host already."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from shiftwork_agent.fetch.target import Sink
from shiftwork_contract.errors import InvalidRequest

PIECE = 256 << 10


async def read(url: str, sink: Sink, max_bytes: int) -> None:
    """Read once: what is verified is what is unpacked, whoever writes to the file meanwhile."""
    with await asyncio.to_thread(_opened, url, max_bytes) as file:
        await sink.begin()
        while piece := await asyncio.to_thread(file.read, PIECE):
            await sink.write(piece)


def _opened(url: str, max_bytes: int) -> BinaryIO:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise InvalidRequest(f"cannot fetch {url}: it names the host {parts.netloc!r}; write file:///path")
    source = Path(unquote(parts.path))
    try:
        found = source.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"cannot fetch {url}: it is not a file")
        if found.st_size > max_bytes:
            raise InvalidRequest(f"cannot fetch {url}: it has {found.st_size} bytes, at most {max_bytes} are expected")
        return source.open("rb")
    except OSError as err:
        raise InvalidRequest(f"cannot fetch {url}: {err.strerror}; put the archive there on every host") from err
