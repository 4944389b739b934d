"""Where a load balancer sends a request: the first rule that fits, and of its target groups one by weight. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

DEFAULT = "default"
Action = Mapping[str, Any]


class Head(NamedTuple):
    """What rules see of a request. Names of `headers` are in lower case."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = {}


class Rule(NamedTuple):
    """As DescribeRules tells it; `priority` is `default` or a number."""

    priority: str
    conditions: Sequence[Mapping[str, Any]]
    actions: Sequence[Action]

    @property
    def order(self) -> float:
        return float("inf") if self.priority == DEFAULT else float(self.priority)


def rule(described: Mapping[str, Any]) -> Rule:
    return Rule(described["Priority"], described.get("Conditions") or (), described.get("Actions") or ())


def action(rules: Iterable[Rule], head: Head) -> Action:
    """What becomes of this request; empty when no rule fits."""
    for each in sorted(rules, key=lambda one: one.order):
        if all(_fits(condition, head) for condition in each.conditions):
            return next((a for a in each.actions if not a["Type"].startswith("authenticate")), {})
    return {}


def weights(forward: Action) -> dict[str, int]:
    """The weight of every target group; empty for an action of another kind."""
    if forward.get("Type") != "forward":
        return {}
    groups = (forward.get("ForwardConfig") or {}).get("TargetGroups")
    if groups:
        return {one["TargetGroupArn"]: int(one.get("Weight", 1)) for one in groups}
    return {forward["TargetGroupArn"]: 1} if "TargetGroupArn" in forward else {}


def drawn(shares: Mapping[str, int], draw: float) -> str:
    """The target group that `draw`, between 0 and 1, falls on; empty when none has a weight."""
    left = draw * sum(shares.values())
    for group, weight in shares.items():
        if left < weight:
            return group
        left -= weight
    return ""


def used(rules: Iterable[Rule]) -> set[str]:
    """The target groups that rules name, whatever their weight."""
    return {group for each in rules for forward in each.actions for group in weights(forward)}


def _fits(condition: Mapping[str, Any], head: Head) -> bool:
    """One that the lab does not know fits no request."""
    read = FIELDS.get(condition.get("Field", ""))
    if read is None:
        return False
    told: Mapping[str, Any] = next((value for key, value in condition.items() if key.endswith("Config")), {})
    wanted = told.get("Values") or condition.get("Values") or ()
    if condition["Field"] == "query-string":
        return any(_has(pair, head) for pair in wanted)
    found = read(told, head)
    return any(fnmatchcase(found, pattern if condition["Field"] == "path-pattern" else pattern.lower())
               for pattern in wanted)  # fmt: skip


def _has(pair: Mapping[str, str], head: Head) -> bool:
    found = parse_qsl(head.query, keep_blank_values=True)
    return any(fnmatchcase(value, pair["Value"]) and fnmatchcase(key, pair.get("Key") or "*") for key, value in found)


FIELDS: Mapping[str, Callable[[Mapping[str, Any], Head], str]] = {
    "path-pattern": lambda told, head: head.path,
    "host-header": lambda told, head: head.headers.get("host", "").partition(":")[0].lower(),
    "http-header": lambda told, head: head.headers.get(told.get("HttpHeaderName", "").lower(), "").lower(),
    "http-request-method": lambda told, head: head.method.lower(),
    "query-string": lambda told, head: head.query,
}
"""What each kind of condition looks at."""
