"""boto3 clients: one per service, region and role, made when first needed, called in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from shiftwork_coordinator.aws.errors import translated

CONNECT_LIMIT, READ_LIMIT = 3.0, 10.0
ATTEMPTS = 4
SESSION_NAME = "shiftwork"

_lock = threading.Lock()
_clients: dict[tuple[str, str, str], Any] = {}


async def call(service: str, operation: str, *, region: str = "", role_arn: str = "", **parameters: Any) -> Any:
    """The answer of one operation, such as `call("cloudwatch", "describe_alarms", AlarmNames=[…])`.

    Retried by the SDK with its adaptive pace. Raises what `errors.translated` makes of a failure.
    """

    def work() -> Any:
        with translated(service, operation):
            return getattr(client(service, region, role_arn), operation)(**parameters)

    return await asyncio.to_thread(work)


async def pages(
    service: str, operation: str, member: str, *, region: str = "", role_arn: str = "", **parameters: Any
) -> list[Any]:
    """All items of `member` over all pages of an operation that boto3 can page."""

    def work() -> list[Any]:
        with translated(service, operation):
            found = client(service, region, role_arn).get_paginator(operation).paginate(**parameters)
            return [item for page in found for item in page.get(member, ())]

    return await asyncio.to_thread(work)


def client(service: str, region: str = "", role_arn: str = "") -> Any:
    """Credentials and region as boto3 finds them, in the environment or the instance's role, or those of `role_arn`."""
    key = (service, region, role_arn)
    with _lock:
        if key not in _clients:
            _clients[key] = _made(service, region, role_arn)
        return _clients[key]


def forget() -> None:
    """For tests: the next client is made anew, with the environment as it is then."""
    with _lock:
        _clients.clear()


def _made(service: str, region: str, role_arn: str) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.Session(region_name=region or None)
    if role_arn:
        session = boto3.Session(botocore_session=_assumed(session, role_arn), region_name=region or None)
    retries = {"mode": "adaptive", "max_attempts": ATTEMPTS}
    limits = {"connect_timeout": CONNECT_LIMIT, "read_timeout": READ_LIMIT}
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
