"""Lifecycle events: their names, their order, and whose revision's scripts they run.

The tables follow AWS CodeDeploy's documentation and the source of its agent. Nothing here knows
what a platform is: a caller picks a row.
"""

from __future__ import annotations

from enum import StrEnum


class LifecycleEvent(StrEnum):
    BEFORE_BLOCK_TRAFFIC = "BeforeBlockTraffic"
    BLOCK_TRAFFIC = "BlockTraffic"
    AFTER_BLOCK_TRAFFIC = "AfterBlockTraffic"
    APPLICATION_STOP = "ApplicationStop"
    DOWNLOAD_BUNDLE = "DownloadBundle"
    BEFORE_INSTALL = "BeforeInstall"
    INSTALL = "Install"
    AFTER_INSTALL = "AfterInstall"
    ALLOW_TEST_TRAFFIC = "AllowTestTraffic"
    AFTER_ALLOW_TEST_TRAFFIC = "AfterAllowTestTraffic"
    APPLICATION_START = "ApplicationStart"
    VALIDATE_SERVICE = "ValidateService"
    BEFORE_ALLOW_TRAFFIC = "BeforeAllowTraffic"
    ALLOW_TRAFFIC = "AllowTraffic"
    AFTER_ALLOW_TRAFFIC = "AfterAllowTraffic"


E = LifecycleEvent

BLOCK_TRIO = (E.BEFORE_BLOCK_TRAFFIC, E.BLOCK_TRAFFIC, E.AFTER_BLOCK_TRAFFIC)
THE_SEVEN = (
    E.APPLICATION_STOP,
    E.DOWNLOAD_BUNDLE,
    E.BEFORE_INSTALL,
    E.INSTALL,
    E.AFTER_INSTALL,
    E.APPLICATION_START,
    E.VALIDATE_SERVICE,
)
ALLOW_TRIO = (E.BEFORE_ALLOW_TRAFFIC, E.ALLOW_TRAFFIC, E.AFTER_ALLOW_TRAFFIC)

IN_PLACE = THE_SEVEN
IN_PLACE_WITH_TRAFFIC_CONTROL = BLOCK_TRIO + THE_SEVEN + ALLOW_TRIO

NOT_SCRIPTABLE = frozenset({E.BLOCK_TRAFFIC, E.DOWNLOAD_BUNDLE, E.INSTALL, E.ALLOW_TRAFFIC})
"""Done by the coordinator (traffic) or by the agent itself; an AppSpec cannot hook them."""

SCRIPTABLE = tuple(event for event in IN_PLACE_WITH_TRAFFIC_CONTROL if event not in NOT_SCRIPTABLE)

RUNS_INSTALLED_REVISION = frozenset({E.BEFORE_BLOCK_TRAFFIC, E.AFTER_BLOCK_TRAFFIC, E.APPLICATION_STOP})
"""These run the scripts of the revision whose Install succeeded last, and are no-ops where there is none."""

STOP_FAILURES = RUNS_INSTALLED_REVISION
"""The events whose failure `ignoreApplicationStopFailures` forgives."""


class EventStatus(StrEnum):
    """CodeDeploy's LifecycleEventStatus."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    UNKNOWN = "Unknown"
