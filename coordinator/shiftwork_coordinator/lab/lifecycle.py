"""Starting and ending a lab, the same way in every runtime."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from shiftwork_contract.errors import Conflict, InvalidRequest, ShiftworkError, Unavailable
from shiftwork_coordinator.lab import first_contact, interrupts, operator, plan
from shiftwork_coordinator.lab.aws.runtime import AwsProcesses
from shiftwork_coordinator.lab.docker import Docker
from shiftwork_coordinator.lab.plan import Instance, Lab
from shiftwork_coordinator.lab.ports import free_ports
from shiftwork_coordinator.lab.process import Processes
from shiftwork_coordinator.lab.runtime import Runtime, Say

RUNTIMES: dict[str, Callable[[], Runtime]] = {"docker": Docker, "process": Processes}
READY_WITHIN = 60.0
SPEAK_AFTER = 2.0
"""Seconds of silence after which a person is told what is being waited for."""


def default_directory() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shiftwork" / "lab"


def runtime(kind: str | None) -> Runtime:
    """The wanted runtime, else Docker where an engine answers, else processes. Raises Unavailable if it cannot run."""
    candidates = [RUNTIMES[kind]()] if kind else [make() for make in RUNTIMES.values()]
    reasons = []
    for candidate in candidates:
        if not (reason := candidate.unusable()):
            return candidate
        reasons.append(f"{candidate.kind}: {reason}")
    raise Unavailable("cannot run a lab here: " + "; ".join(reasons))


def runtime_of(lab: Lab) -> Runtime:
    return AwsProcesses() if lab.aws else RUNTIMES[lab.runtime]()


def aws_up(directory: Path, say: Say, *, contained: bool = False) -> Lab:
    """A lab with a stand-in for AWS, which answers. Raises Unavailable where moto is not installed, or Docker for
    `contained` tasks."""
    where = AwsProcesses(contained=contained)
    if why := where.unusable():
        raise Unavailable(f"cannot run a lab with AWS here: {why}")
    return _up(directory, 0, where, say)


def up(directory: Path, count: int, where: Runtime, say: Say) -> Lab:
    """A lab of which every part answers, described in `directory`/lab.json.

    When anything goes wrong, KeyboardInterrupt included, what was started is ended again and the logs are kept.
    """
    plan.checked_count(count)
    return _up(directory, count, where, say)


def _up(directory: Path, count: int, where: Runtime, say: Say) -> Lab:
    image = where.prepare(say)
    with ExitStack() as undo:
        lab = _reserve(directory, where, image)
        undo.callback(_give_up, where, lab)
        lab = where.layout(lab, count)
        plan.save(lab)
        lab = _start(where, lab, say)
        undo.pop_all()
    return lab


def _give_up(where: Runtime, lab: Lab) -> None:
    with interrupts.ignored():
        where.keep_logs(lab)
        where.down(lab)
        (lab.directory / plan.FILE).unlink(missing_ok=True)


def down(lab: Lab) -> None:
    """Nothing of the lab is left, its files included. Logs go with it: `keep_logs` before to keep them elsewhere."""
    runtime_of(lab).down(lab)
    for entry in lab.directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    lab.directory.rmdir()


def _reserve(directory: Path, where: Runtime, image: str) -> Lab:
    if (directory / plan.FILE).exists():
        raise Conflict(f"cannot start a lab in {directory}: there is one; end it with `shiftwork lab down`")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(directory.iterdir()):
        raise InvalidRequest(f"cannot start a lab in {directory}: it is not empty; name another directory")
    ports = dict(zip(("coordinator", "balancer", "admin"), free_ports(3), strict=True))
    name, aws = f"shiftwork-lab-{secrets.token_hex(3)}", isinstance(where, AwsProcesses)
    return Lab(name, where.kind, directory.resolve(), ports, (), image=image, aws=aws)


def _start(where: Runtime, lab: Lab, say: Say) -> Lab:
    what = "AWS's stand-in" if lab.aws else f"a load balancer and {len(lab.instances)} instances"
    say(f"Starting a coordinator, {what} ({where.kind}) ...")
    where.start_coordinator(lab)
    lab = _acquainted(where, lab, say)
    if isinstance(where, AwsProcesses):
        wait_until(lambda: where.answers(lab), "AWS's stand-in to answer", say)
    _all_of([partial(where.start_balancer, lab), *(partial(_join, where, lab, i) for i in lab.instances)])
    names = {instance.name for instance in lab.instances}
    wait_until(lambda: names <= operator.connected(lab), "all agents to connect", say)
    return lab


def _all_of(parts: Sequence[Callable[[], object]]) -> None:
    """Runs all, some at once. The first error, or an interrupt, ends it when those that had begun are done."""
    with ThreadPoolExecutor(8) as pool:
        try:
            for begun in [pool.submit(part) for part in parts]:
                begun.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _join(where: Runtime, lab: Lab, instance: Instance) -> None:
    where.start_instance(lab, instance, operator.agent_token(lab, instance.name))


def _acquainted(where: Runtime, lab: Lab, say: Say) -> Lab:
    """`lab` with a token and the CA, once the coordinator answers."""
    met: dict[str, str] = {}

    def meet() -> bool:
        try:
            met.update(json.loads(where.on_coordinator(lab, first_contact.__name__)))
        except ShiftworkError as err:
            met["why"] = err.message
        return "token" in met

    wait_until(meet, "the coordinator to answer", say, why=lambda: met.get("why", ""))
    lab.ca.write_text(met["ca"])
    lab = msgspec.structs.replace(lab, token=met["token"])
    plan.save(lab)
    return lab


def wait_until(
    done: Callable[[], bool], what: str, say: Say, within: float = READY_WITHIN, why: Callable[[], str] = str
) -> None:
    """Raises Unavailable with `why` when `done` stays false; says what is waited for when it takes long."""
    began = time.monotonic()
    spoken = False
    while not done():
        waited = time.monotonic() - began
        if waited > within:
            raise Unavailable(f"cannot start the lab: waited {within:g} s for {what}. {why()}".rstrip())
        if waited > SPEAK_AFTER and not spoken:
            say(f"Waiting for {what} ...")
            spoken = True
        time.sleep(0.1)
