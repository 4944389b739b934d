"""How often one address may knock on the routes that ask for no credentials first."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

from shiftwork_contract.errors import Unavailable

BURST, EACH = 60, 0.2
"""Attempts that may come at once, and the seconds after which one more is free."""
ADDRESSES = 10_000
"""Remembered at most; the one that has been quiet the longest is forgotten first."""


class TooMany(Unavailable):
    """HTTP 429; `retry_after` in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"cannot take more attempts from this address now; try again in {retry_after} s", code="TooMany"
        )
        self.retry_after = retry_after


class Attempts:
    """A bucket for each address, kept as the time at which it will be full again."""

    def __init__(self, burst: int = BURST, each: float = EACH, addresses: int = ADDRESSES) -> None:
        self._most, self._each, self._addresses = burst * each, each, addresses
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, address: str, now: float) -> None:
        """Counts one attempt. Raises TooMany, without counting, when there were too many before it."""
        whose = _network(address)
        full_at = max(self._full_at.get(whose, now), now) + self._each
        if full_at - now > self._most + 1e-9:
            raise TooMany(math.ceil(full_at - now - self._most))
        self._full_at[whose] = full_at
        self._full_at.move_to_end(whose)
        if len(self._full_at) > self._addresses:
            self._full_at.popitem(last=False)

    def give_back(self, address: str) -> None:
        """The attempt turned out to be right."""
        whose = _network(address)
        if whose in self._full_at:
            self._full_at[whose] -= self._each


def _network(address: str) -> str:
    """An IPv6 host owns its whole /64, so that counts as one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 4 or (found.version == 6 and found.ipv4_mapped):
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))
