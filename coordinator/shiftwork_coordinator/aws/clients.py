"""boto3 clients: one per service, region and role, made when first needed, called in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

from shiftwork_coordinator.aws.errors import translated

CONNECT_LIMIT, READ_LIMIT = 1.5, 3.0
"""Seconds: one try ends within the time that the shell gives an outward call, also in a thread that nobody awaits."""
ATTEMPTS = 3
SESSION_NAME = "shiftwork"

_lock = threading.Lock()
_clients: dict[tuple[str, str, str, float, int], Any] = {}


class Where(Protocol):
    """Region and role of a call; empty = as boto3 finds them, in the environment or the instance's role."""

    @property
    def region(self) -> str: ...
    @property
    def role_arn(self) -> str: ...


async def call(
    service: str, operation: str, at: Where, read_limit: float = READ_LIMIT, attempts: int = ATTEMPTS, **parameters: Any
) -> Any:
    """The answer of one operation, such as `call("cloudwatch", "describe_alarms", at, AlarmNames=[…])`.

    Tried `attempts` times with the SDK's adaptive pace; whoever changes something and must not do so late asks for one.
    Raises what `errors.translated` makes of a failure.
    """

    def work() -> Any:
        with translated(service, operation):
            return getattr(client(service, at, read_limit, attempts), operation)(**parameters)

    return await asyncio.to_thread(work)


def client(service: str, at: Where, read_limit: float = READ_LIMIT, attempts: int = ATTEMPTS) -> Any:
    """The shared client of these; clients may be used by many threads."""
    key = (service, at.region, at.role_arn, read_limit, attempts)
    with _lock:
        if key not in _clients:
            _clients[key] = _made(*key)
        return _clients[key]


def forget() -> None:
    """For tests: the next client is made anew, with the environment as it is then."""
    with _lock:
        _clients.clear()


def _made(service: str, region: str, role_arn: str, read_limit: float, attempts: int) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.Session(region_name=region or None)
    if role_arn:
        session = boto3.Session(botocore_session=_assumed(session, role_arn), region_name=region or None)
    retries = {"mode": "adaptive", "total_max_attempts": attempts}
    limits = {"connect_timeout": CONNECT_LIMIT, "read_timeout": read_limit}
    return session.client(service, config=Config(retries=retries, user_agent_extra="shiftwork", **limits))


def _assumed(session: Any, role_arn: str) -> Any:
    """A session whose credentials are the role's, and are renewed before they expire."""
    from botocore.credentials import DeferredRefreshableCredentials
    from botocore.session import get_session

    own = get_session()
    own._credentials = DeferredRefreshableCredentials(_fetcher(session, role_arn), "assume-role")
    return own


def _fetcher(session: Any, role_arn: str) -> Callable[[], dict[str, str]]:
    from botocore.credentials import AssumeRoleCredentialFetcher

    inner = session._session
    fetcher = AssumeRoleCredentialFetcher(
        inner.create_client, inner.get_credentials(), role_arn, {"RoleSessionName": SESSION_NAME}
    )
    return fetcher.fetch_credentials  # type: ignore[no-any-return]
