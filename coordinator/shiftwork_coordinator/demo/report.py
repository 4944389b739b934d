"""What a demonstration showed, and whether all of it held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shiftwork_coordinator.demo.split import Step
from shiftwork_coordinator.demo.tally import Result
from shiftwork_coordinator.lab.aws.recording import Recorded


class Deployment(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`rollback_of` is the deployment that this one undid."""

    deployment_id: str
    revision: str
    status: str
    duration_seconds: float
    rollback_of: str = ""


class Requests(msgspec.Struct, frozen=True, rename="camel"):
    sent: int
    failed: int
    by_version: Mapping[str, int]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """`minimum_in_service` is the least number of instances in service at any moment after the first deployment;
    `serving` the version that answers at the end."""

    runtime: str
    instances: int
    deployments: tuple[Deployment, ...]
    requests: Requests
    minimum_in_service: int
    serving: str


class AwsReport(Report, frozen=True, kw_only=True, rename="camel"):
    """`aws_calls` are the coordinator's, in order. Nothing may be `left_behind`."""

    aws_calls: tuple[Recorded, ...]
    left_behind: tuple[str, ...]


class ShiftReport(AwsReport, frozen=True, kw_only=True, rename="camel"):
    """`split` is what was measured."""

    traffic_weights: tuple[Mapping[str, Any], ...]
    split: tuple[Step, ...]


class Shown(msgspec.Struct, frozen=True):
    """A report, how a person reads it, and what did not hold."""

    report: Report
    lines: tuple[str, ...]
    problems: tuple[str, ...]


def deployment(view: Mapping[str, Any], rollback_of: str = "") -> Deployment:
    """From the coordinator's view of an ended deployment."""
    began = view["startTime"] or view["createTime"]
    took = (view["completeTime"] or began) - began
    return Deployment(view["deploymentId"], view["revision"]["identity"], view["status"], round(took, 2), rollback_of)


def requests(result: Result) -> Requests:
    return Requests(result.sent, result.failed, result.by_version)


def least_in_service(views: list[Mapping[str, Any]], result: Result) -> int:
    """By the coordinator's own record, else by who answered the traffic."""
    known = [view["minimumInService"] for view in views if view.get("minimumInService") is not None]
    return min(known) if known else result.least_hosts or 0


def problems(report: Report, statuses: list[str], floor: int, serving: str, versions: set[str]) -> tuple[str, ...]:
    """What differs from the promise, in words; empty when all of it held."""
    found = [d.status for d in report.deployments]
    served = set(report.requests.by_version)
    checks = {
        f"the deployments ended {found}, expected {statuses}": found != statuses,
        f"{report.requests.failed} of {report.requests.sent} requests failed": report.requests.failed > 0,
        "no requests were sent": report.requests.sent == 0,
        f"{report.minimum_in_service} instances were in service, at least {floor} promised": (
            report.minimum_in_service < floor
        ),
        f"{report.serving or 'nobody'} answers at the end, expected {serving}": report.serving != serving,
        f"versions {sorted(served)} answered requests, expected {sorted(versions)}": served != versions,
    }
    return tuple(text for text, wrong in checks.items() if wrong)


def lines(report: Report, names: Mapping[str, str], batches: Mapping[str, int], result: Result) -> tuple[str, ...]:
    """The report as text. `names` are the versions' names by revision, `batches` their count by deployment."""
    served = ", ".join(f"{count} by {version}" for version, count in report.requests.by_version.items())
    return (
        "",
        *(_row(d, names.get(d.revision, d.revision), batches.get(d.deployment_id, 0)) for d in report.deployments),
        f"requests     {report.requests.sent} sent, {report.requests.failed} failed ({served})",
        *(f"             failed: {count} x {reason}" for reason, count in result.by_reason.items()),
        f"in service   never fewer than {report.minimum_in_service} of {report.instances} instances",
        f"serving      {report.serving}",
    )


def _row(one: Deployment, name: str, batches: int) -> str:
    ended = {"Succeeded": "succeeded", "Failed": "failed"}.get(one.status, one.status)
    kind = f"{one.deployment_id}  {name} {ended}"
    what = f", rollback of {one.rollback_of}" if one.rollback_of else ""
    return f"deployment   {kind} in {one.duration_seconds:.1f} s, {batches} batches{what}"
