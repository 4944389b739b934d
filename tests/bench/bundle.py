"""A bundle of 1 GB and 2,000 files from a web server on loopback into the agent's store, and `curl | tar x` beside it.

Ours is verified, and on the disk for good when the time stops; tar's is neither, so its time with a `sync` is told too.
"""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import Figure, Result, Skipped, median

from shiftwork_agent.fetch import Fetcher
from shiftwork_agent.installer import Installer
from shiftwork_contract.archive import inspect
from shiftwork_contract.revision import BundleType, Revision

PART = "1 GB bundle from loopback"
FILES, SIZE = 2_000, 1 << 30
ROUNDS = 3
GOAL = 1.25
"""At most this much of the time that `curl | tar x` takes: 0.8 of its throughput."""
SERVER = """
import sys
from aiohttp import web
async def show(request): return web.FileResponse(sys.argv[1])
app = web.Application()
app.router.add_get("/{path:.*}", show)
async def main():
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
import asyncio
asyncio.run(main())
"""


async def measure(directory: Path) -> AsyncIterator[Result]:
    if not (shutil.which("curl") and shutil.which("tar")):
        yield Skipped(PART, "curl and tar are not there")
        return
    tar = directory / "bundle.tar"
    identity = await asyncio.to_thread(_made, tar)
    subprocess.run(["gzip", "-1", "-k", "-S", ".gz", str(tar)], check=True)
    for archive, kind, flag in ((tar, BundleType.TAR, "x"), (tar.with_suffix(".tar.gz"), BundleType.TGZ, "xz")):
        with _served(archive) as url:
            for figure in await asyncio.to_thread(_compared, directory, url, identity, kind, flag):
                yield figure


def _made(path: Path) -> str:
    """Half of each file is noise, half is text."""
    noise, words = random.Random(1), [b"%x " % (n * 7919) for n in range(5000)]
    block, text, size = noise.randbytes(1 << 21), b"".join(noise.choices(words, k=400_000)), SIZE // FILES
    with tarfile.open(path, "w") as tar:
        _add(tar, "appspec.yml", b"version: 0.0\nos: linux\n")
        for number in range(FILES):
            at = noise.randrange(1 << 20)
            _add(tar, f"d{number % 50}/f{number}", block[at : at + size // 2] + text[at : at + size - size // 2])
    with path.open("rb") as content:
        return inspect(content, BundleType.TAR).identity


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@contextmanager
def _served(archive: Path) -> Iterator[str]:
    asked = [sys.executable, "-c", SERVER, str(archive)]
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def _compared(directory: Path, url: str, identity: str, kind: BundleType, flag: str) -> list[Figure]:
    """Turn by turn, so that whatever else the machine does meets all of them."""
    tar, synced, ours = [], [], []
    for _ in range(ROUNDS):
        plain, flushed = _with_tar(directory / "tar", url, flag)
        tar.append(plain)
        synced.append(plain + flushed)
        ours.append(_with_agent(directory / "agent", url, identity, kind))
    name = f"curl | tar {flag}"
    return [
        median(PART, f"{name}", [SIZE / 1e6 / t for t in tar], "MB/s"),
        median(PART, f"{name}; sync", [SIZE / 1e6 / t for t in synced], "MB/s"),
        median(PART, f"agent, {kind}", [SIZE / 1e6 / t for t in ours], "MB/s"),
        median(PART, f"agent's time against {name}", [a / b for a, b in zip(ours, tar, strict=True)], "x", GOAL),
        median(PART, f"agent's time against {name}; sync", [a / b for a, b in zip(ours, synced, strict=True)], "x"),
    ]


def _with_tar(into: Path, url: str, flag: str) -> tuple[float, float]:
    """Seconds until tar has ended, and seconds more until it is on the disk."""
    into.mkdir()
    began = time.perf_counter()
    with subprocess.Popen(["curl", "-s", url], stdout=subprocess.PIPE) as curl:
        subprocess.run(["tar", flag, "-C", str(into)], stdin=curl.stdout, check=True)
    ended = time.perf_counter()
    subprocess.run(["sync", "-f", str(into)], check=True)
    flushed = time.perf_counter() - ended
    shutil.rmtree(into)
    return ended - began, flushed


def _with_agent(state: Path, url: str, identity: str, kind: BundleType) -> float:
    """In a process of its own, as the agent is; the process's start is not counted."""
    asked = [sys.executable, "-m", "tests.bench.bundle", str(state), url, identity, str(kind)]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(state)
    return float(told)


async def _brought(state: Path, url: str, revision: Revision) -> float:
    installer = Installer(state, state / "root", Fetcher(coordinator=lambda: url))
    began = time.perf_counter()
    await installer._bring(revision)
    return time.perf_counter() - began


if __name__ == "__main__":
    place, base, wanted, form = sys.argv[1:]
    print(asyncio.run(_brought(Path(place), base, Revision(wanted, "coordinator:", bundle_type=BundleType(form)))))
