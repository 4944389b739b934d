"""The bytes of a bundle as they come from outside, for `inspect` to read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from shiftwork_contract.revision import BundleType, Revision

PIECE = 1 << 20
Opened = Callable[[], contextlib.AbstractContextManager[BinaryIO]]


@contextlib.contextmanager
def seekable(content: BinaryIO, revision: Revision, directory: Path) -> Iterator[BinaryIO]:
    """`content` itself, unless it is a zip: its table of contents is at its end, so it has to lie on disk first."""
    if revision.bundle_type is not BundleType.ZIP:
        yield content
        return
    with tempfile.TemporaryFile(dir=directory) as file:
        shutil.copyfileobj(content, file, PIECE)
        file.seek(0)
        yield file
