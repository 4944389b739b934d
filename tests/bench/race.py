"""A small bundle to ten containers, half at a time: Shiftwork, plain ssh (the floor), ansible-core and pyinfra."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from tests.bench.bundles import trivial
from tests.bench.containers import hosts
from tests.bench.figures import Figure, Result, Skipped, median
from tests.bench.rivals import Ansible, Pyinfra, Ssh
from tests.bench.serving import Api

from shiftwork_coordinator.lab.docker import Docker
from shiftwork_coordinator.lab.plan import TAGS, Lab

PART = "ten hosts"
HOSTS = 10
RUNS = 5
RATIO = 1.25


async def measure(directory: Path) -> AsyncIterator[Result]:
    if reason := Docker().unusable():
        yield Skipped(PART, reason)
        return
    with hosts(directory, HOSTS, _say) as (lab, config):
        bundle = trivial(directory / "bundle-0", "v0")
        addresses = [instance.address for instance in lab.instances]
        floor = Ssh(config, bundle, addresses)
        await floor.open()
        ours, ssh = await _side_by_side(lab, directory, floor)
        yield median(PART, "plain ssh over open connections (the floor)", ssh, "s")
        yield median(PART, "Shiftwork", ours, "s")
        yield Figure(PART, "Shiftwork against the floor", _ratio(ours, ssh), "x", RATIO, runs=len(ours))
        key = directory / "key"
        rivals: dict[str, Callable[[], float]] = {
            "ansible-core": Ansible(directory, config, bundle, addresses).run,
            "pyinfra": Pyinfra(directory, key, bundle, addresses).run,
        }
        for name, run in rivals.items():
            yield median(PART, name, [run() for _ in range(RUNS)], "s")


def _ratio(ours: list[float], floor: list[float]) -> float:
    return median("", "", ours, "").value / median("", "", floor, "").value


async def _side_by_side(lab: Lab, directory: Path, floor: Ssh) -> tuple[list[float], list[float]]:
    """Both in turn, so that whatever else the machine does falls on both. The first deployment is not counted."""
    ours, ssh = [], []
    context = ssl_context(lab)
    headers = {"Authorization": f"Bearer {lab.token}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), headers=headers) as session:
        api = Api(session, lab.url)
        await api.apply("HalfAtATime", instances={"tags": {key: [value] for key, value in TAGS.items()}})
        for number in range(RUNS + 1):
            revision = await api.push(trivial(directory / f"bundle-{number + 1}", f"v{number + 1}"))
            began = time.monotonic()
            await api.ended(await api.deploy(revision), every=0.02)
            took = time.monotonic() - began
            if number:
                ours.append(took)
                ssh.append(await floor.run())
    return ours, ssh


def ssl_context(lab: Lab) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(lab.ca))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
