"""boto3 clients: one per service, region and role, made when first needed, called in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
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
    service: str,
    operation: str,
    at: Where,
    read_limit: float = READ_LIMIT,
    attempts: int = ATTEMPTS,
    /,
    **parameters: Any,
) -> Any:
    """The answer of one operation, such as `call("cloudwatch", "describe_alarms", at, AlarmNames=[…])`.

    Tried `attempts` times with the SDK's adaptive pace; whoever changes something and must not do so late asks for one.
    Raises what `errors.translated` makes of a failure.
    """

    def work() -> Any:
        with translated(service, operation):
            return getattr(client(service, at, read_limit, attempts), operation)(**parameters)

    return await _in_thread(f"aws-{service}", work)


async def _in_thread(name: str, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, in a thread that is nobody else's: a hook function's quarter of an hour keeps
    neither alarms from being read nor the process from ending, as it would in a pool."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(answer: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            answer(value)

    def run() -> None:
        try:
            answer: tuple[Callable[[Any], None], Any] = done.set_result, work()
        except BaseException as err:  # noqa: BLE001  told to who awaits it
            answer = done.set_exception, err
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who asked
            loop.call_soon_threadsafe(tell, *answer)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


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


def region_here() -> str | None:
    """What the environment says in the variable that AWS's other tools heed; boto3 knows AWS_DEFAULT_REGION alone."""
    return os.environ.get("AWS_REGION") or None


def _made(service: str, region: str, role_arn: str, read_limit: float, attempts: int) -> Any:
    import boto3
    from botocore.config import Config

    where = region or region_here()
    session = boto3.Session(region_name=where)
    if role_arn:
        session = boto3.Session(botocore_session=_assumed(session, role_arn), region_name=where)
    retries = {"mode": "adaptive", "total_max_attempts": attempts}
    limits = {"connect_timeout": CONNECT_LIMIT, "read_timeout": read_limit, "tcp_keepalive": True}
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
