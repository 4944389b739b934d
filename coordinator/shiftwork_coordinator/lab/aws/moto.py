"""moto's server, a process of its own, and what the stand-in asks it itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import aiohttp

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.aws.exchange import Answer
from shiftwork_coordinator.lab.plan import REGION

SIGNED = "AWS4-HMAC-SHA256 Credential=LAB/20200101/" + REGION + "/{}/aws4_request, SignedHeaders=host, Signature=0"
"""moto finds the service in the signature and checks nothing of it."""

HOP = frozenset(
    {"connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive", "date", "server"}
)
"""Headers of one connection, not of what is sent over it."""


def missing() -> bool:
    return find_spec("moto") is None or find_spec("flask") is None


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


class Moto:
    """`session` is whose connections are used; it stays the caller's."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises Unavailable when moto does not answer."""
        from yarl import URL

        try:
            where = URL(self._url + path, encoded=True)
            async with self._session.request(method, where, headers=headers, data=body, allow_redirects=False) as got:
                kept = {name: value for name, value in got.headers.items() if name.lower() not in HOP}
                return Answer(got.status, await got.read(), kept)
        except aiohttp.ClientError as err:
            raise Unavailable(f"cannot reach moto at {self._url}: {err}") from err

    async def json_call(self, service: str, target: str, parameters: Mapping[str, Any]) -> Any:
        """What a JSON service answers; `target` is such as `GraniteServiceVersion20100801.DescribeAlarms`."""
        headers = {
            "X-Amz-Target": target,
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": SIGNED.format(service),
        }
        answered = await self.ask("POST", "/", headers, json.dumps(parameters).encode())
        if not answered.fine:
            raise Unavailable(f"cannot call {target}: moto answered {answered.status} {answered.body[:200]!r}")
        return answered.read()
