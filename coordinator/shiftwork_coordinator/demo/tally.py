"""What a run of traffic counted: the one thing that the demonstration and the tests believe."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import msgspec

FAILURES_KEPT = 200


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """A request that got no right answer. `at` is Unix time, `took` is seconds."""

    at: float
    took: float
    method: str
    connection: str
    reason: str


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """`failed` counts all failures, `failures` shows the first of them. `least_hosts` is the least number of distinct
    hosts that answered within one whole second, None before a second has passed."""

    seconds: float
    sent: int
    failed: int
    by_version: Mapping[str, int]
    by_reason: Mapping[str, int]
    failures: tuple[Failure, ...] = ()
    hosts: tuple[str, ...] = ()
    least_hosts: int | None = None


class Tally:
    def __init__(self) -> None:
        self.sent = self.failed = 0
        self._failures: list[Failure] = []
        self._versions: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._hosts: defaultdict[int, set[str]] = defaultdict(set)

    def succeeded(self, elapsed: float, version: str, host: str) -> None:
        """`elapsed` is seconds since the run began."""
        self._versions[version] += 1
        self._hosts[int(elapsed)].add(host)

    def fail(self, failure: Failure) -> None:
        self.failed += 1
        self._reasons[failure.reason] += 1
        if len(self._failures) < FAILURES_KEPT:
            self._failures.append(failure)

    def result(self, seconds: float) -> Result:
        whole = [len(self._hosts[second]) for second in range(int(seconds))]
        return Result(
            round(seconds, 3),
            self.sent,
            self.failed,
            dict(sorted(self._versions.items())),
            dict(self._reasons.most_common()),
            tuple(self._failures),
            tuple(sorted(set().union(*self._hosts.values()))),
            min(whole, default=None),
        )
