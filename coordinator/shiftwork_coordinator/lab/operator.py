"""The lab's own use of the coordinator's HTTP API, over the network like anybody's."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.plan import TAGS, Lab


def ask(lab: Lab, method: str, route: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer. Raises Unavailable with the reason for everything else."""
    context = ssl.create_default_context(cafile=str(lab.ca))
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    headers = {"Authorization": f"Bearer {lab.token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    try:
        with opener.open(Request(lab.url + route, data, headers, method=method), timeout=10.0) as answer:
            return json.loads(answer.read())
    except HTTPError as err:
        raise Unavailable(f"cannot {method} {route}: {err.code} {err.read().decode(errors='replace')[:500]}") from err
    except (URLError, OSError, ValueError) as err:
        raise Unavailable(f"cannot reach the lab's coordinator at {lab.url}: {err}") from err


def agent_token(lab: Lab, name: str) -> str:
    """A token that lets one agent join as `name`, with the lab's tags."""
    wanted = {"kind": "agent", "name": name, "tags": TAGS, "ttl": 900.0, "uses": 1}
    return str(ask(lab, "POST", "/v1/tokens", wanted)["token"])


def connected(lab: Lab) -> set[str]:
    """Names of the instances whose agent is connected now; empty while the coordinator does not answer."""
    try:
        listed = ask(lab, "GET", "/v1/instances")["instances"]
    except Unavailable:
        return set()
    return {instance["instance"] for instance in listed if instance["connected"]}
