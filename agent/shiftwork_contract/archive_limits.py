"""How much an archive may hold."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Limits on one archive. `ratio` is unpacked to packed bytes, looked at beyond the first `ratio_free_bytes`."""

    entries: int = 200_000
    unpacked_bytes: int = 16 << 30
    ratio: int = 200
    ratio_free_bytes: int = 64 << 20
    path_bytes: int = 4095
    depth: int = 256
    """Of directories within each other: what walks a tree does so by recursion, in Python and elsewhere."""
    header_bytes: int = 1 << 20
    """Of names and attributes of one tar member: they are held in memory."""
    directory_bytes: int = 32 << 20
    """Of a zip archive's table of contents: it is held in memory."""
