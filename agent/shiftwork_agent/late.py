"""The installer and what fetches, imported when first needed: an agent that waits for a command has no use for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.executor import Scripts
from shiftwork_agent.layout import Layout
from shiftwork_agent.link import Link
from shiftwork_contract.messages import Command, GroupState, Package

if TYPE_CHECKING:
    from shiftwork_agent.fetch import Fetcher
    from shiftwork_agent.installer import Installer as Real


def fetcher(link: Callable[[], Link], config: Config) -> Fetcher:
    """Fetches from the coordinator that the link has, else from the first; asks for the link when it fetches."""
    from shiftwork_agent.fetch import Fetcher, own

    return Fetcher(
        coordinator=lambda: link().coordinator or config.coordinators[0],
        tls=lambda: link().context or True,
        **own(config.s3, config.github, os.environ, SystemClock().wall),
    )


async def fetch_package(link: Link, config: Config, package: Package, into: Path) -> None:
    """upgrading.Fetch, from the coordinator. Raises InvalidRequest unless size and digest are the package's."""
    from shiftwork_agent.upgrading import CheckedFile

    with into.open("wb") as file:
        sink = CheckedFile(package, file)
        fetch = fetcher(lambda: link, config)
        await fetch.fetch_path(package.path, f"the package of {package.version}", package.size, sink)
        sink.check()
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())


class LateInstaller:
    """`link` says which coordinator bundles come from; it must be set before the first `prepare`."""

    link: Link

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout, self._config = layout, config
        self._made: Real | None = None

    async def recover(self) -> None:
        """Before any command: ends every install that a kill has cut. A host that installed nothing has none."""
        if (self._layout.state / "groups").is_dir():
            await self._installer().recover()

    def _installer(self) -> Real:
        if self._made is None:
            from shiftwork_agent.installer import Installer
            from shiftwork_agent.store import Store
            from shiftwork_agent.trust import Policy, Trust

            config = self._config
            policy = Policy(config.require_signed, config.allowed_signers, config.rollback_window)
            self._made = Installer(
                self._layout.state, Path(config.install_root or "/"), fetcher(lambda: self.link, config),
                store=Store(self._layout.state, keep=config.keep_revisions, max_bytes=config.keep_bytes),
                trust=Trust(policy, self._layout.accepted, SystemClock()), destinations=config.allowed_destinations,
            )  # fmt: skip
        return self._made

    async def prepare(self, command: Command, *, serving: bool = False) -> None:
        await self._installer().prepare(command, serving=serving)

    async def admit(self, command: Command, *, installed: bool = False) -> object:
        return await self._installer().admit(command, installed=installed)

    async def install(self, command: Command) -> None:
        await self._installer().install(command)

    def bundle_dir(self, identity: str) -> Path:
        return self._installer().bundle_dir(identity)

    def appspec(self, command: Command, *, installed: bool = False) -> Scripts:
        return self._installer().appspec(command, installed=installed)

    def installed(self, group_id: str) -> GroupState:
        return self._installer().installed(group_id)
