"""How aliases and listeners shared out what came, step by step: what was measured against what was asked for. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from shiftwork_coordinator.demo.invocations import Invocation
from shiftwork_coordinator.lab.aws.balancing import forwarding
from shiftwork_coordinator.lab.aws.recording import Recorded

SIGMAS = 4.0
"""Standard deviations of the binomial distribution; chance alone leaves them once in 16,000 times."""


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """Of the `invocations` of `name` that began and ended while `weight` was in force, `by_replacement` ran the new
    version."""

    name: str
    weight: float
    invocations: int
    by_replacement: int

    @property
    def within(self) -> bool:
        expected = self.invocations * self.weight
        return abs(self.by_replacement - expected) <= SIGMAS * math.sqrt(expected * (1 - self.weight)) + 1e-9


def moves(calls: Sequence[Recorded], function: str, replacement: str) -> list[tuple[Recorded, float]]:
    """Writes of the function's alias that had an effect, each with the replacement's share after it."""
    written = [c for c in calls if c.operation == "UpdateAlias" and c.parameters.get("FunctionName") == function]
    done = [call for call in written if 200 <= call.status < 300]
    return [(call, _weight(call.parameters, replacement)) for call in done]


def _weight(given: Any, replacement: str) -> float:
    if given.get("FunctionVersion") == replacement:
        return 1.0
    return float((given.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {}).get(replacement, 0.0))


def shares(calls: Sequence[Recorded], listener: str, replacement: str) -> list[tuple[Recorded, float]]:
    """Changes of a listener that changed the share of a target group, each with that share."""
    written = [c for c in calls if c.operation == "ModifyListener" and c.parameters.get("ListenerArn") == listener]
    found: list[tuple[Recorded, float]] = []
    for call in written:
        given = share(call.parameters["DefaultActions"], replacement)
        if call.status == 200 and given != (found[-1][1] if found else 0.0):
            found.append((call, given))
    return found


def share(actions: Sequence[Any], group: str) -> float:
    weights = forwarding.weights(actions[-1])
    return weights.get(group, 0) / (sum(weights.values()) or 1)


def steps(found: Sequence[Invocation], calls: Sequence[Recorded], function: str, replacement: str) -> tuple[Step, ...]:
    """Before the first write, between writes, and after the last."""
    return between(found, moves(calls, function, replacement), function, replacement)


def between(
    found: Sequence[Invocation], made: Sequence[tuple[Recorded, float]], name: str, replacement: str
) -> tuple[Step, ...]:
    """The same, where shares were written otherwise; `name` is whose they are."""
    begins = [(0.0, 0.0), *((call.answered, weight) for call, weight in made)]
    ends = [*(call.at for call, _ in made), float("inf")]
    spans = zip(begins, ends, strict=True)
    return tuple(_step(_within(found, begin, end), weight, name, replacement) for (begin, weight), end in spans)


def _within(found: Sequence[Invocation], begin: float, end: float) -> list[Invocation]:
    return [one for one in found if one.sent >= begin and one.answered <= end and one.version]


def _step(inside: Sequence[Invocation], weight: float, name: str, replacement: str) -> Step:
    return Step(name, weight, len(inside), sum(one.version == replacement for one in inside))
