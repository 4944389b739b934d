"""What a platform without agents shifts the traffic of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import ServiceShift
from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.revision import Revision

Resource = FunctionShift | ServiceShift


def place_of(one: Resource | None) -> tuple[str, str] | None:
    """Function and alias, or cluster and service: what only one deployment at a time can shift the traffic of."""
    if isinstance(one, FunctionShift):
        return one.function, one.alias
    return None if one is None else (one.cluster, one.service)


def reversed_resource(one: Resource, token: str) -> Resource:
    """The way back: what was the replacement is the original now. `token` marks what is made for it."""
    if isinstance(one, FunctionShift):
        return replace(one, current=one.target, target=one.current)
    return replace(one, current=one.target, target=one.current, original="", token=token)


def marked(one: Resource, token: str) -> Resource:
    """With the token of its deployment, where something is made for it."""
    return replace(one, token=token) if isinstance(one, ServiceShift) else one


def revision_of(resources: Iterable[Resource]) -> Revision:
    """The revision that these are: its identity is the digest of their text, and there is no bundle to fetch."""
    return Revision(f"sha256:{hashlib.sha256(content_of(resources).encode()).hexdigest()}", "appspec:", "archive")


def content_of(resources: Iterable[Resource]) -> str:
    """The resources as JSON text: equal ones give equal texts, whatever deployment they are of."""
    plain = [replace(one, token="", original="") if isinstance(one, ServiceShift) else one for one in resources]
    return msgspec.json.encode(plain).decode()
