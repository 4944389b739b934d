"""What happened in a simulated world, as the checker reads it: facts about the world, not what the engine believes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    at: float
    kind: str
    instance: str = ""
    data: dict[str, object] = field(default_factory=dict)


@dataclass
class History:
    """Facts in order. `floor`, `revision`, `bound` and `pace` are those of the deployment under test."""

    deployment: str
    revision: str
    bound: float
    pace: str
    facts: list[Fact] = field(default_factory=list)

    def add(self, at: float, kind: str, instance: str = "", **data: object) -> None:
        self.facts.append(Fact(at, kind, instance, data))

    def of(self, *kinds: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind in kinds]

    def last(self, kind: str) -> Fact | None:
        found = self.of(kind)
        return found[-1] if found else None
