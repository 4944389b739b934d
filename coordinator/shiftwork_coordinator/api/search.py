"""Searching with a caller's regular expression, which may be one that never ends: in a process of its own, with a
limit on its time. In this process it would hold up every deployment."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shiftwork_contract.errors import InvalidRequest

CHILD = Path(__file__).with_name("search_child.py")
LONGEST = 1000


class Exhausted(Exception):
    """The search took all the time that it may take."""


class Search:
    """`found` returns the lines of a piece in which the pattern is found; None stands for any line."""

    def __init__(self, process: asyncio.subprocess.Process | None) -> None:
        self._process = process

    async def found(self, lines: bytes) -> bytes:
        """Raises Exhausted."""
        process = self._process
        if process is None:
            return lines
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(lines).to_bytes(8) + lines)
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(8))
            return await process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as err:
            raise Exhausted from err


def checked(pattern: str) -> str:
    """Raises InvalidRequest for what is no regular expression of at most LONGEST characters."""
    if len(pattern) > LONGEST or "\0" in pattern:
        raise InvalidRequest(
            f"cannot search for {pattern[:40]!r}…: give at most {LONGEST} characters, none of them NUL"
        )
    try:
        re.compile(pattern.encode())
    except (re.error, OverflowError, RecursionError) as err:
        raise InvalidRequest(f"cannot search for {pattern!r}: it is no regular expression: {err}") from err
    return pattern


@asynccontextmanager
async def searching(pattern: str) -> AsyncIterator[Search]:
    if not pattern:
        yield Search(None)
        return
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(CHILD), pattern, stdin=pipe, stdout=pipe
    )
    try:
        yield Search(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
