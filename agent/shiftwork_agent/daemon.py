"""The composition root: everything is made here, and everything that runs is a task of one TaskGroup."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from shiftwork_agent import identity, logs, readings, status
from shiftwork_agent.aws import metadata
from shiftwork_agent.clock import Clock, SystemClock, boot_id
from shiftwork_agent.config import Config
from shiftwork_agent.executor import Executor, Installer
from shiftwork_agent.facts import has_systemd, host_facts
from shiftwork_agent.gate import Gates
from shiftwork_agent.hooks import read_output, trim
from shiftwork_agent.journal import Journal
from shiftwork_agent.late import LateInstaller, fetch_package
from shiftwork_agent.layout import Layout
from shiftwork_agent.ledger import Ledger
from shiftwork_agent.link import Link
from shiftwork_agent.notify import notify, watchdog_seconds
from shiftwork_agent.outbox import Outbox
from shiftwork_agent.renewal import Renewal
from shiftwork_agent.upgrading import FEATURE, Upgrades, why_not
from shiftwork_agent.watching import Watches
from shiftwork_contract.errors import ShiftworkError, Unavailable
from shiftwork_contract.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    CancelCommand,
    Certificate,
    FromCoordinator,
    Heartbeat,
    Hello,
    Observed,
    RunCommand,
    SetGate,
    Unwatch,
    Upgrade,
    Watch,
    Welcome,
)

log = logging.getLogger(__name__)
Wish = TypeVar("Wish", Watch, SetGate)

FEATURES = ("gate", "quiet", "prepare", "output")
STATUS_PAUSE = 0.25
"""Seconds between two writes of the status file."""


async def run(layout: Layout, config: Config, version: str) -> None:
    """Runs until SIGTERM or SIGINT; hooks and what they started go on. SIGHUP does nothing."""
    layout.create()
    held = status.lock(layout)
    who = identity.credentials(layout)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    with os.fdopen(held), _until_stopped():
        async with asyncio.TaskGroup() as tasks:
            installer = LateInstaller(layout, config)
            agent = Agent(layout, config, who, SystemClock(), tasks, installer, version)
            installer.link = agent.link
            await installer.recover()
            await agent.start()
            notify("READY=1")
            log.info("running", extra={"instance": who.identity.instance, "state": str(layout.state)})
            await stop.wait()
            notify("STOPPING=1")
            await agent.stop()
            raise _Stop
    log.info("stopped")


class _Stop(Exception):
    """Ends the TaskGroup from inside."""


@contextlib.contextmanager
def _until_stopped() -> Iterator[None]:
    try:
        yield
    except* _Stop:
        pass


class Agent:
    """The peer behind the link: hands each message to the part that it concerns."""

    def __init__(
        self,
        layout: Layout,
        config: Config,
        who: identity.Credentials,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        installer: Installer,
        version: str = "",
    ) -> None:
        self.layout, self.config, self.clock, self._tasks = layout, config, clock, tasks
        self.version = version
        self._started = self._turned = clock.uptime()
        self._changed = asyncio.Event()
        self._gate_orders: asyncio.Queue[SetGate] = asyncio.Queue()
        self.ledger = Ledger(layout.ledger, self._compacted)
        self.outbox = Outbox(self.ledger, self._read_output)
        self.journal = Journal(self.ledger, self.outbox, keep=config.keep_commands)
        self.link = Link(config.coordinators, who.context, self.outbox, self, clock)
        self.renewal = Renewal(layout, who.identity, self.link, clock, config.coordinators)
        self.gates = Gates(layout.gates, clock, self._gate_changed, config.address)
        self.watches = Watches(self.gates, self.link.send_reading, tasks, config.address, layout.state)
        self.executor = Executor(
            layout, installer, self.journal, self.outbox, self.ledger, clock, tasks,
            self.link.offline_for, config.install_root, config.output_limit, config.output_keep_bytes, self.changed,
        )  # fmt: skip
        self._facts = facts = host_facts()
        self.upgrades = Upgrades(
            layout.upgrade, version, facts,
            why_not(facts, systemd=has_systemd(), require_signed=config.require_signed),
            self.link.send, partial(fetch_package, self.link, config), tasks,
        )  # fmt: skip

    async def start(self) -> None:
        """Reads back what an earlier agent knew, then lets everything run."""
        self.journal.restore(self.ledger.open())
        self._read_contact()
        for work in (self.ledger.run(), self._keep_status(), self._set_gates(), self.renewal.run(), self._watchdog()):
            self._tasks.create_task(work)
        await self.gates.restore()
        self.executor.resume()
        self.upgrades.start()
        self._tasks.create_task(self.link.run())
        self.changed()

    async def stop(self) -> None:
        self.link.close()
        await self.ledger.durable()
        await self.gates.close()
        self.layout.status.unlink(missing_ok=True)

    def _compacted(self) -> list[bytes]:
        return list(self.journal.compacted())

    def _read_output(self, command_id: str, event: str, offset: int, length: int) -> bytes:
        return read_output(self.layout.event(command_id, event), offset, length)

    # what the link asks and tells

    async def hello(self) -> Hello:
        await self._locate()
        return Hello(
            PROTOCOL_MIN,
            PROTOCOL_MAX,
            self.version,
            boot_id(),
            self.outbox.next_seq,
            self.journal.epoch,
            FEATURES if self.upgrades.problem else (*FEATURES, FEATURE),
            tuple(self.executor.state(group_id) for group_id in self.journal.sequences),
            tuple(entry.command.id for entry in self.journal.unfinished()),
            self._facts,
        )

    async def _locate(self) -> None:
        """Where in EC2 this host is, once that was told. An answer that does not come is waited for a second, and
        asked for again with the next link."""
        if self._facts.instance_id or not metadata.expected(os.environ):
            return
        try:
            id, region, zone = await metadata.identity(os.environ)
        except Unavailable as err:
            log.warning("cannot tell which instance of EC2 this is", extra={"problem": err.message})
        else:
            self._facts = msgspec.structs.replace(self._facts, instance_id=id, region=region, zone=zone)

    def welcomed(self, welcome: Welcome) -> None:
        if not self.journal.see_epoch(welcome.epoch):
            log.warning("the coordinator's epoch is over", extra={"epoch": welcome.epoch, "seen": self.journal.epoch})
        self._turned = self.clock.uptime()
        self.upgrades.connected()
        self._write_contact()
        self.changed()

    def acknowledged(self) -> None:
        self.changed()

    def disconnected(self) -> None:
        self._turned = self.clock.uptime()
        self.upgrades.disconnected()
        self._write_contact()
        self.changed()

    def heartbeat(self) -> Heartbeat:
        self._write_contact()
        trim(self.layout.commands)
        return readings.heartbeat(self.layout.state, self.clock.uptime())

    def handle(self, message: FromCoordinator) -> None:
        match message:
            case RunCommand():
                self.executor.receive(message)
            case CancelCommand():
                self.executor.cancel(message)
            case Certificate():
                self._tasks.create_task(self.renewal.install(message))
            case Watch() | Unwatch() | SetGate():
                self._handle_wish(message)
            case Upgrade() if self.journal.see_epoch(message.epoch):
                self.upgrades.receive(message)
            case Upgrade():
                self.upgrades.refuse(message, f"epoch {message.epoch} is over: epoch {self.journal.epoch} has begun")
            case _:
                log.warning("unexpected message", extra={"kind": type(message).__name__})

    def _handle_wish(self, message: Watch | Unwatch | SetGate) -> None:
        if not self.journal.see_epoch(message.epoch):
            kind = type(message).__name__
            log.warning("ignoring a message of a past epoch", extra={"kind": kind, "epoch": message.epoch})
        elif isinstance(message, Watch):
            self.watches.set(self._allowed(message))
        elif isinstance(message, Unwatch):
            self.watches.drop(message.group_id)
        else:
            self._gate_orders.put_nowait(self._allowed(message))

    def _allowed(self, message: Wish) -> Wish:
        """Where only signed code runs, a health check's command does not: the check then fails and says so."""
        check = message.health
        if check is None or not check.command or not self.config.require_signed:
            return message
        return msgspec.structs.replace(message, health=msgspec.structs.replace(check, command=()))

    async def _set_gates(self) -> None:
        """In the order they came."""
        while True:
            order = await self._gate_orders.get()
            await self.gates.set(order)
            self.watches.asked(order.group_id, order.asked)
            self.tell_gate(order)
            self.changed()

    def tell_gate(self, order: SetGate) -> None:
        """An answer for a gate that nobody watches."""
        if not self.watches.watches(order.group_id):
            state = self.gates.state(order.group_id)
            self.link.send_reading(Observed(order.group_id, order.asked, gate=state))

    def _gate_changed(self, group_id: str) -> None:
        self.watches.tell(group_id)

    # status and contact

    def changed(self) -> None:
        self._changed.set()

    async def _keep_status(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                status.write(self.layout, self._status())
            except OSError as err:  # it is for people; the work goes on without it
                log.warning("cannot write the status file: %s", err)
            await asyncio.sleep(STATUS_PAUSE)

    def _status(self) -> status.Status:
        about, config = self.renewal.identity, self.config
        turned = self._wall_at(self._turned)
        return status.Status(
            pid=os.getpid(),
            version=self.version,
            instance=about.instance,
            name=about.name,
            since=self._wall_at(self._started),
            connected=self.link.connected,
            coordinator=self.link.coordinator,
            problem=self.link.problem,
            connected_since=turned if self.link.connected else 0.0,
            offline_since=0.0 if self.link.connected else turned,
            waiting_reports=len(self.outbox.waiting()),
            epoch=self.journal.epoch,
            certificate_expires=about.expires,
            groups=tuple(self.executor.state(group_id) for group_id in self.journal.sequences),
            running=tuple(self.executor.running()),
            gates=self.gates.states(),
            last=tuple(self.journal.last()),
            limits=status.Limits(
                config.keep_revisions, config.keep_bytes, config.output_limit, config.keep_commands,
                config.output_keep_bytes,
            ),
        )  # fmt: skip

    def _wall_at(self, uptime: float) -> float:
        """For people: what the clock as it is now would have shown then, whether or not it was set since."""
        return self.clock.wall() - (self.clock.uptime() - uptime)

    async def _watchdog(self) -> None:
        """Tells the service manager that this loop turns and that the disk answers the ledger: an agent without either
        promises nothing more, and a new one takes over its hooks."""
        seen = 0
        while pause := watchdog_seconds():
            if not self.ledger.writing or self.ledger.writing != seen:
                notify("WATCHDOG=1")
            seen = self.ledger.writing
            await asyncio.sleep(pause)

    def _write_contact(self) -> None:
        heard = self.clock.uptime() - self.link.offline_for()
        try:
            self.layout.contact.write_text(f"{boot_id()} {heard:.3f}\n")
        except OSError as err:  # a full disk: an older time stays, which only makes this agent more careful
            log.warning("cannot note when the coordinator was heard: %s", err)

    def _read_contact(self) -> None:
        """An agent that is restarted again and again while it is cut off must not think each time that it just was
        heard."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            boot, uptime = self.layout.contact.read_text().split()
            if boot == boot_id():
                self.link.heard_at(float(uptime))


def main(arguments: list[str]) -> None:
    """Started by `shiftwork-agent run`, which has checked the settings: version, state directory, settings as JSON."""
    version, state, settings = arguments
    config = msgspec.json.decode(settings, type=Config)
    logs.set_up(config.log_format, config.log_level)
    problem = ""
    try:
        asyncio.run(run(Layout(Path(state)), config, version))
    except* ShiftworkError as group:
        problem = str(group.exceptions[0])
    if problem:
        sys.stderr.write(f"shiftwork-agent: {problem}\n")
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
