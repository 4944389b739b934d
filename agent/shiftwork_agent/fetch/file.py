"""A bundle that lies on the host already."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shiftwork_contract.errors import InvalidRequest


def copy(url: str, into: Path, max_bytes: int) -> None:
    """Copies, so that what is verified is what is unpacked, whoever writes to the original meanwhile."""
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
        shutil.copyfile(source, into)
    except OSError as err:
        raise InvalidRequest(f"cannot fetch {url}: {err.strerror}; put the archive there on every host") from err
