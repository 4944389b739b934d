"""One host, from the first look to an agent that the coordinator hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from shiftwork_contract.errors import ShiftworkError
from shiftwork_coordinator.bootstrap import facts, orders
from shiftwork_coordinator.bootstrap.facts import Look, Survey
from shiftwork_coordinator.bootstrap.orders import Order
from shiftwork_coordinator.bootstrap.packages import Package, upstream
from shiftwork_coordinator.bootstrap.ports import Coordinator, HostProblem, Ran, Session, Ticket
from shiftwork_coordinator.bootstrap.steps import (
    Await,
    Done,
    Install,
    Join,
    Known,
    Refuse,
    Start,
    Step,
    Wish,
    is_heard,
    name_of,
    next_step,
    unfit,
)
from shiftwork_coordinator.bootstrap.targets import Target

CLEAN_UP_WITHIN = 5.0
"""Seconds that a host gets to drop what was copied there, whatever else went wrong."""
HEARD_WITHIN = 60.0


@dataclass(frozen=True)
class Tools:
    """What every host of a run shares. `claim` tells which other host has a name, `tell` hears what is going on."""

    coordinator: Coordinator
    wish: Wish
    claim: Callable[[str, Target], str]
    tell: Callable[[Target, str, str], None]
    sudo_password: str = ""
    heard_within: float = HEARD_WITHIN


@dataclass
class Host:
    """One host during one run. `did` is what was changed there, `instance` its name once that is known."""

    target: Target
    session: Session
    tools: Tools
    did: list[str]
    instance: str = ""
    look: Look = field(default_factory=Look)

    async def bring(self) -> None:
        """Takes one step after the other until none is left. Raises HostProblem; what it did stands in `did`."""
        self._tell("looking")
        self.look = facts.look(facts.told((await self._run(orders.look)).output))
        _accepted(unfit(self.look, self.tools.wish))
        taken: list[Step] = []
        while not isinstance(step := await self._next(), Done):
            if step in taken:
                raise HostProblem(
                    f"cannot see that it worked: after {self.did[-1] if self.did else 'it'} the host is as before",
                    "look at `systemctl status shiftwork-agent` there",
                )
            taken.append(step)
            await self._take(step)

    async def _next(self) -> Step:
        wish = self.tools.wish
        survey, name, known = await self._facts()
        self.instance = name
        return next_step(self.look, survey, known, name, wish)

    async def _facts(self) -> tuple[Survey, str, Known]:
        said = await self._run(orders.survey)
        survey = facts.survey(facts.told(self._good(said, "look at the agent there").output))
        name = name_of(self.look, survey, self.target.host, self.tools.wish)
        known = await self.tools.coordinator.known(name)
        return survey, name, replace(known, taken_by=self.tools.claim(name, self.target))

    async def _take(self, step: Step) -> None:
        match step:
            case Install(package):
                await self._install(package)
            case Join(name, force):
                await self._join(name, force=force)
            case Start():
                await self._start()
            case Await():
                await self._await()
            case _:
                _accepted(step if isinstance(step, Refuse) else None)

    async def _install(self, package: Package) -> None:
        async with self._directory() as directory:
            file = str(PurePosixPath(directory) / package.path.name)
            self._tell(f"copying {package.path.name}")
            await self.session.copy(package.path, file, lambda done: self._copied(package, done))
        # From here the script owns the directory: it goes through, and drops it, even if we are interrupted.
        self._tell(f"installing {upstream(package.version)}")
        ran = await self._run(orders.install(file, package.digest))
        self._good(ran, f"install {package.path.name}")
        self.did.append(f"installed {upstream(package.version)}")  # its own script restarts an agent that runs

    def _copied(self, package: Package, done: int) -> None:
        share = 100 * done // package.size if package.size else 100
        self.tools.tell(self.target, self.instance, f"copying {package.path.name}: {share} %")

    @asynccontextmanager
    async def _directory(self) -> AsyncIterator[str]:
        """A directory there, which is gone if what is done in it fails or is interrupted."""
        ran = self._good(await self._run(orders.prepare), "make a temporary directory")
        directory = facts.told(ran.output).get("directory", "")
        try:
            yield directory
        except BaseException:
            async with _bounded():
                await self._run(orders.discard(directory))
            raise

    async def _join(self, name: str, *, force: bool) -> None:
        self._tell("joining")
        async with self._ticket(name) as ticket:
            order = orders.join(self.tools.wish.url, name, self._address(), force=force)
            ran = await self._run(order, ticket.text.encode() + b"\n")
            self._good(ran, "join", ticket.text)
        self.did.append("joined anew" if force else "joined")
        await self._start()

    def _address(self) -> str:
        """What it announces: the address that SSH reached it by, unless that means itself to everybody."""
        address = self.look.address.partition("%")[0]
        return "" if address.startswith("127.") or address == "::1" else address

    @asynccontextmanager
    async def _ticket(self, name: str) -> AsyncIterator[Ticket]:
        """A token that is worth nothing afterwards: used, or withdrawn, even if we are interrupted."""
        coordinator = self.tools.coordinator
        asking = asyncio.ensure_future(coordinator.admit(name, self.target.tags))
        try:
            ticket = await asyncio.shield(asking)
        except asyncio.CancelledError:
            async with _bounded():
                await coordinator.withdraw(await asking)
            raise
        try:
            yield ticket
        except BaseException:
            async with _bounded():
                await coordinator.withdraw(ticket)
            raise

    async def _start(self) -> None:
        self._tell("starting")
        self._good(await self._run(orders.start), "start the agent's service")
        self.did.append("started")

    async def _await(self) -> None:
        """Until the coordinator hears it. Raises HostProblem with what the agent says of itself."""
        self._tell("waiting for the agent")
        survey, name, known = await self._facts()
        try:
            async with asyncio.timeout(self.tools.heard_within):
                while not is_heard(known, survey):
                    known = await self.tools.coordinator.known(name)
        except TimeoutError:
            said = (await self._run(orders.explain)).output
            raise HostProblem(
                f"cannot hear the agent {name} within {self.tools.heard_within:g} s: {_tail(said)}",
                f"check that {self.tools.wish.url} can be reached from there",
            ) from None

    async def _run(self, order: Order, stdin: bytes = b"") -> Ran:
        if self.look.root or not order.root:
            return await self.session.run(order.command(), stdin)
        if self.look.sudo == "yes":
            return await self.session.run(order.command(orders.SUDO), stdin)
        secret = self.tools.sudo_password.encode() + b"\n"
        return await self.session.run(order.command(orders.SUDO_ASKED), secret + stdin)

    def _good(self, ran: Ran, what: str, secret: str = "") -> Ran:
        if ran.code == 0:
            return ran
        said = _tail(ran.output.replace(secret, "…") if secret else ran.output)
        raise HostProblem(f"cannot {what} (exit code {ran.code}): {said}", "mend that there, then run this again")

    def _tell(self, stage: str) -> None:
        self.tools.tell(self.target, self.instance, stage)


def _accepted(refused: Refuse | None) -> None:
    if refused is not None:
        raise HostProblem(refused.problem, refused.remedy)


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """For cleaning up: it is tried for a while, and what fails then does not hide why we clean up."""
    try:
        async with asyncio.timeout(CLEAN_UP_WITHIN):
            yield
    except (TimeoutError, ShiftworkError):
        pass


def _tail(output: str) -> str:
    """The last lines that say something, as one."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("@")]
    return " / ".join(lines[-3:])[-400:] or "it says nothing"
