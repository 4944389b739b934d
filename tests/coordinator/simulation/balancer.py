"""A balancer like HAProxy: maint, health checks with rise and fall, requests in flight; it may forget and lie."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from shiftwork_contract.errors import Unavailable

RISE, FALL = 2, 3


@dataclass
class Server:
    maint: bool = False
    up: bool = True
    checked: bool = True
    streak: int = 0
    requests: list[float] = field(default_factory=list)


class Balancer:
    """`away` = it cannot be asked but serves. `blinks`: every other count of requests in flight is a lie, 0."""

    def __init__(self, names: list[str], serves: Callable[[str], bool], chance: random.Random) -> None:
        self.servers = {name: Server() for name in names}
        self.generation = "1"
        self.away = self.blinks = False
        self.longest = 2.0
        self._serves, self._chance, self._asked = serves, chance, 0
        for name, server in self.servers.items():
            server.up = serves(name)

    def order(self, name: str, *, out: bool) -> None:
        server = self.servers[name]
        if not out and server.maint:
            server.up, server.checked, server.streak = False, False, 0
        server.maint = out

    def reload(self) -> None:
        """A new process from the configuration file: whatever was ordered at run time is forgotten."""
        self.generation = str(int(self.generation) + 1)
        for server in self.servers.values():
            server.maint = False

    def in_rotation(self, name: str) -> bool:
        server = self.servers[name]
        return server.up and not server.maint

    def in_flight(self, name: str, now: float) -> int:
        server = self.servers[name]
        server.requests = [end for end in server.requests if end > now]
        return len(server.requests)

    def check(self, now: float) -> None:
        """One round of health checks and of clients."""
        for name, server in self.servers.items():
            if not server.maint:
                self._probe(server, self._serves(name))
            if self.in_rotation(name):
                server.requests.append(now + self._chance.uniform(0.1, self.longest))

    def _probe(self, server: Server, passed: bool) -> None:
        server.streak = 0 if passed == (server.up and server.checked) else server.streak + 1
        if server.streak >= (RISE if passed else FALL):
            server.up, server.checked, server.streak = passed, True, 0

    def reading(self, name: str, now: float) -> tuple[str, int]:
        if self.away:
            raise Unavailable("cannot ask the balancer: it does not answer; see that it runs")
        self._asked += 1
        count = self.in_flight(name, now)
        if self.blinks and self._asked % 2 and count:
            count = 0
        return self._state(self.servers[name]), count

    def _state(self, server: Server) -> str:
        if server.maint:
            return "absent"
        if not server.checked:
            return "starting"
        return "healthy" if server.up else "unhealthy"
