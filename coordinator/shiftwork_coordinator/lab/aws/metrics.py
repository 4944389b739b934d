"""What moto lacks of CloudWatch: alarms that turn red by metric data, metric and composite ones."""

from __future__ import annotations

import asyncio
import operator
import re
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handlers, Pass, answer
from shiftwork_coordinator.lab.aws.moto import Moto
from shiftwork_coordinator.ports import Clock

TARGET = "GraniteServiceVersion20100801."
LOOK_EVERY = 0.25
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Average": lambda values: sum(values) / len(values),
}
Series = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, metric, dimensions."""


class Metrics:
    """An alarm is evaluated over the last `Period` x `EvaluationPeriods` seconds, as soon as there is data of its
    metric; one without any stays as SetAlarmState has left it."""

    def __init__(self, moto: Moto, clock: Clock) -> None:
        self._moto, self._clock = moto, clock
        self._points: defaultdict[Series, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=100_000))
        self._rules: dict[str, str] = {}
        self._news = asyncio.Event()

    def handlers(self) -> Handlers:
        told = ("PutMetricData", "SetAlarmState", "PutMetricAlarm")
        mine = {"PutCompositeAlarm": self.compose, "DescribeAlarms": self.describe}
        return {("cloudwatch", name): handler for name, handler in (dict.fromkeys(told, self.take) | mine).items()}

    def put(self, namespace: str, metric: str, dimensions: Mapping[str, str], value: float) -> None:
        self._points[namespace, metric, frozenset(dimensions.items())].append((self._clock.now(), value))
        self._news.set()

    async def take(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            given = asked.call.parameters
            for datum in given.get("MetricData", ()):
                dimensions = {d["Name"]: d["Value"] for d in datum.get("Dimensions", ())}
                self.put(given["Namespace"], datum["MetricName"], dimensions, _value(datum))
            self._news.set()
        return answered

    async def compose(self, asked: Asked, moto: Pass) -> Answer:
        """moto keeps its name and state, as of an alarm without a metric; the rule is kept here."""
        name = str(asked.call.parameters["AlarmName"])
        await self._moto.json_call("monitoring", TARGET + "PutMetricAlarm", {"AlarmName": name})
        self._rules[name] = str(asked.call.parameters.get("AlarmRule", ""))
        self._news.set()
        return answer({}) if "X-Amz-Target" in asked.headers else Answer(200, b"<PutCompositeAlarmResponse/>")

    async def describe(self, asked: Asked, moto: Pass) -> Answer:
        """Composite alarms stand apart, and only where they are asked for; in JSON, which every newer SDK speaks."""
        answered = await moto(asked)
        if not answered.fine or "X-Amz-Target" not in asked.headers:
            return answered
        found, kinds = answered.read(), asked.call.parameters.get("AlarmTypes") or ["MetricAlarm"]
        rows = found.get("MetricAlarms") or []
        metric = [row for row in rows if row["AlarmName"] not in self._rules]
        composite = [row | {"AlarmRule": self._rules[row["AlarmName"]]} for row in rows if row not in metric]
        found["MetricAlarms"] = metric if "MetricAlarm" in kinds else []
        found["CompositeAlarms"] = composite if "CompositeAlarm" in kinds else []
        return answer(found)

    async def run(self) -> None:
        """Evaluates what has data; asks moto nothing while nothing is new and nothing is red."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                if await self.evaluate():
                    self._news.set()
            except Unavailable:
                self._news.set()
            await asyncio.sleep(LOOK_EVERY)

    async def evaluate(self) -> bool:
        """Whether an alarm is red that will turn green by itself."""
        found = await self._moto.json_call("monitoring", TARGET + "DescribeAlarms", {})
        alarms = found.get("MetricAlarms") or []
        states = {alarm["AlarmName"]: str(alarm.get("StateValue", "")) for alarm in alarms}
        again = False
        for alarm in alarms:
            if (evaluated := self._state(alarm)) is not None:
                await self._change(alarm["AlarmName"], states, *evaluated)
                again = again or evaluated[0] == "ALARM"
        for name in self._rules.keys() & states.keys():
            red = holds(self._rules[name], states)
            await self._change(name, states, "ALARM" if red else "OK", self._rules[name])
        return again

    def _state(self, alarm: Mapping[str, Any]) -> tuple[str, str] | None:
        dimensions = frozenset((d["Name"], d["Value"]) for d in alarm.get("Dimensions") or ())
        points = self._points.get((alarm.get("Namespace", ""), alarm.get("MetricName", ""), dimensions))
        compared = COMPARISONS.get(alarm.get("ComparisonOperator", ""))
        if points is None or compared is None:
            return None
        since = self._clock.now() - float(alarm.get("Period") or 60) * int(alarm.get("EvaluationPeriods") or 1)
        values = [value for at, value in points if at >= since]
        threshold = float(alarm.get("Threshold") or 0)
        found = STATISTICS.get(alarm.get("Statistic", ""), sum)(values) if values else 0.0
        state = "ALARM" if compared(found, threshold) else "OK"
        return state, f"{alarm.get('Statistic')} of {alarm.get('MetricName')} is {found:g}, threshold {threshold:g}"

    async def _change(self, name: str, states: dict[str, str], state: str, why: str) -> None:
        if states[name] != state:
            states[name] = state
            told = {"AlarmName": name, "StateValue": state, "StateReason": why}
            await self._moto.json_call("monitoring", TARGET + "SetAlarmState", told)


def _value(datum: Mapping[str, Any]) -> float:
    if "StatisticValues" in datum:
        return float(datum["StatisticValues"]["Sum"])
    return sum(map(float, datum.get("Values", ()))) if "Values" in datum else float(datum.get("Value", 0))


STATE = r"(?:ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*\"?[^\")]+\"?\s*\)"
WORD = re.compile(rf"\s*(\(|\)|AND\b|OR\b|NOT\b|TRUE\b|FALSE\b|{STATE})")


def holds(rule: str, states: Mapping[str, str]) -> bool:
    """A composite alarm's rule: ALARM(), OK(), INSUFFICIENT_DATA(), AND, OR, NOT and parentheses."""
    words = WORD.findall(rule)
    return _either(words, states) if words else False


def _either(words: list[str], states: Mapping[str, str]) -> bool:
    found = _both(words, states)
    while words and words[0] == "OR":
        words.pop(0)
        found = _both(words, states) or found
    return found


def _both(words: list[str], states: Mapping[str, str]) -> bool:
    found = _one(words, states)
    while words and words[0] == "AND":
        words.pop(0)
        found = _one(words, states) and found
    return found


def _one(words: list[str], states: Mapping[str, str]) -> bool:
    word = words.pop(0)
    if word == "NOT":
        return not _one(words, states)
    if word == "(":
        found = _either(words, states)
        words.pop(0)
        return found
    if word in ("TRUE", "FALSE"):
        return word == "TRUE"
    state, _, name = word.partition("(")
    alarm = name.rstrip(") ").strip('" ').rpartition(":")[2]
    return states.get(alarm, "INSUFFICIENT_DATA") == state.strip()
