"""Upgrades of agents: the rows, and what a decision on one is made from.

Their statuses are a deployment's and a target's. Rows are written by the engine's decisions; `stop_by` by an operator,
under the lock that decisions are made under.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from shiftwork_contract.messages import HostFacts, Upgraded
from shiftwork_coordinator.model.rows import Row
from shiftwork_coordinator.model.status import DeploymentStatus, TargetStatus

Format = Literal["deb", "rpm"]
Key = tuple[str, str, str]
"""Version, format and machine of a package."""


class AgentPackage(Row, frozen=True):
    """A package of the agent. Its file lies in the package store under `sha256:` and its digest.

    `machine` is as `uname -m` says, `version` as the agent says its own.
    """

    version: str
    format: Format
    machine: str
    sha256: str
    size: int
    added_at: float = 0.0
    added_by: str = ""

    @property
    def key(self) -> Key:
        return self.version, self.format, self.machine


class AgentUpgrade(Row, frozen=True):
    """Agents becoming `version`, at most `at_once` of them at any time, the first one alone.

    One counts once it has been connected for `settle` seconds as the new version. More than `max_failed` failures halt
    it. With `no_return` an agent needs no package of its present version, and is not put back. `batch` is the number of
    the batch under way, 0 before the first.
    """

    id: str
    version: str
    at_once: int
    max_failed: int = 0
    settle: float = 10.0
    connect_within: float = 60.0
    no_return: bool = False
    created_at: float = 0.0
    created_by: str = ""
    status: DeploymentStatus = DeploymentStatus.IN_PROGRESS
    stop_by: str = ""
    batch: int = 0
    completed_at: float | None = None
    error_code: str = ""
    error_message: str = ""


class AgentUpgradeTarget(Row, frozen=True):
    """One agent within one upgrade. `from_version` is what it was when its turn came; `code` and `reason` say why it
    failed or was skipped."""

    upgrade_id: str
    instance: str
    status: TargetStatus = TargetStatus.PENDING
    batch: int = 0
    from_version: str = ""
    code: str = ""
    reason: str = ""
    started_at: float | None = None
    completed_at: float | None = None


class HostSeen(msgspec.Struct, frozen=True):
    """What is known of an instance and its agent.

    `joined` is false once it was revoked. `busy` is an active deployment that has the instance as a target. `told` is
    what its agent said last of this upgrade over the link that is open. `silent_since` is since when it has been away.
    """

    joined: bool = True
    connected: bool = False
    connected_at: float = 0.0
    silent_since: float = 0.0
    version: str = ""
    able: bool = False
    host: HostFacts = HostFacts()
    busy: str = ""
    told: Upgraded | None = None

    def key(self, version: str) -> Key:
        return version, self.host.package, self.host.machine


class UpgradeSnapshot(msgspec.Struct, frozen=True):
    """Everything a decision may depend on besides the time."""

    upgrade: AgentUpgrade
    targets: Mapping[str, AgentUpgradeTarget]
    hosts: Mapping[str, HostSeen]
    packages: Mapping[Key, AgentPackage]
    epoch: int
