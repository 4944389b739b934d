"""Numbers for Prometheus. No label names a target: a fleet would make thousands of series."""

from __future__ import annotations

from collections import Counter as Count

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.shell.coordinator import Coordinator


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._tick = Histogram(
            "shiftwork_tick_seconds",
            "Time of one tick of one deployment, commit included",
            registry=self._registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
        )
        self._agents = Gauge("shiftwork_agents_connected", "Agents with an open link", registry=self._registry)
        self._deployments = Gauge(
            "shiftwork_deployments_active", "Deployments that have not ended", ["status"], registry=self._registry
        )
        self._targets = Gauge("shiftwork_targets_in_progress", "Targets under way", registry=self._registry)

    def ticked(self, seconds: float) -> None:
        self._tick.observe(seconds)

    async def text(self, home: Coordinator) -> bytes:
        self._agents.set(home.agents.count())
        self._deployments.clear()
        for status, count in Count(str(run.image.deployment.status) for run in home.runs.values()).items():
            self._deployments.labels(status).set(count)
        targets = [t for run in home.runs.values() for t in run.image.targets.values() if t.role != "fleet"]
        self._targets.set(sum(t.status is TargetStatus.IN_PROGRESS for t in targets))
        return generate_latest(self._registry)
