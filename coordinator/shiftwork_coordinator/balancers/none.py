"""`none` is not a balancer.

A group without a balancer has no BlockTraffic and no AllowTraffic at all, so a driver that pretends to answer would
only make up proofs. The name is in the table for its message: people look for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.ports import Gates, LoadBalancer


def connect(settings: Mapping[str, object], gates: Gates) -> LoadBalancer:
    """Always raises InvalidRequest."""
    raise InvalidRequest(
        "cannot use `none` as a load balancer: leave `load_balancers` out, then traffic is neither blocked nor "
        "allowed; or use `gate` when something in front has health checks",
        code="INVALID_LOAD_BALANCER",
    )
