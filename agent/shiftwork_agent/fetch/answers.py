"""What a server's answer means: go on, try again, or give up and say why."""

from __future__ import annotations

import json
import re

import aiohttp

from shiftwork_agent.fetch.target import Target
from shiftwork_contract.errors import Denied, InvalidRequest, ShiftworkError

_FOR_NOW = {408, 416, 425, 429}
REDIRECTS = {301, 302, 303, 307, 308}


class Cut(Exception):
    """The answer broke off, or is worth another try."""


class Changed(Exception):
    """What lies there is not what was begun with."""


async def checked(response: aiohttp.ClientResponse, target: Target, *, proven: bool) -> None:
    """Returns for an answer whose body is what was asked for. `proven`: the same was allowed a moment ago."""
    status = response.status
    if status in (200, 206):
        return _same(response, target)
    reason = f"the server answered {status} {response.reason}"
    if status >= 500 or status in _FOR_NOW or (proven and status in (401, 403)):
        raise Cut(reason)
    raise _refusal(status, f"cannot fetch {target.name}: {await _words(response) or reason}")


def _same(response: aiohttp.ClientResponse, target: Target) -> None:
    found = response.headers.get("ETag", "").strip('"')
    if target.etag and found != target.etag:
        raise replaced(target, f"its ETag is {found or 'missing'} instead of {target.etag}")


def _refusal(status: int, problem: str) -> ShiftworkError:
    if status in (401, 403):
        return Denied(problem)
    if status == 412:
        return InvalidRequest(f"{problem}; it was replaced after the deployment was created", code="DigestMismatch")
    return InvalidRequest(problem)


def replaced(target: Target, difference: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot fetch {target.name}: {difference}; it was replaced after the deployment was created; deploy again",
        code="DigestMismatch",
    )


async def _words(response: aiohttp.ClientResponse) -> str:
    """The server's own, where it is a coordinator or S3 that speaks. Never an address, which may be a secret."""
    body = (await response.content.read(4096)).decode("utf-8", "replace")
    if found := re.search(r"<Code>([A-Za-z0-9]{1,60})</Code>", body):
        return f"S3 answered {response.status} {found[1]}"
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def told(err: BaseException) -> str:
    """The words of an error of a library, without what follows a ? in an address."""
    return re.sub(r"\?[^\s'\")]*", "", str(err)) or type(err).__name__


def strong_validator(response: aiohttp.ClientResponse) -> str:
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""
