"""What a deployment changes besides instances: what its traffic is shifted of, and the groups that launch instances."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from shiftwork_contract.appspec_ecs import ServiceShift
from shiftwork_contract.appspec_lambda import FunctionShift
from shiftwork_contract.revision import Revision


class ScalingGroup(msgspec.Struct, frozen=True, tag="autoscaling"):
    """An Auto Scaling group whose instances a deployment changes. `name` is `autoscaling:` and the group's name. What
    is noted in the group carries `token`, the deployment's id. `replacement` is the group that takes over in
    blue/green, empty in place; `copied`: it is made as a copy, and stands already otherwise."""

    name: str
    group: str
    token: str = ""
    replacement: str = ""
    copied: bool = False


class ExistingSets(msgspec.Struct, frozen=True, tag="existing"):
    """Two sets of instances that stand already, of which one takes over from the other. `name` is `existing:` and the
    deployment group's name. `groups` are the Auto Scaling groups among them, held meanwhile; `ends` are EC2's ids of
    the originals that are terminated in the end."""

    name: str
    groups: tuple[ScalingGroup, ...] = ()
    ends: tuple[str, ...] = ()


Shift = FunctionShift | ServiceShift
Resource = Shift | ScalingGroup | ExistingSets


def place_of(one: Resource | None) -> tuple[str, str] | None:
    """What only one deployment at a time can change: function and alias, cluster and service, a group."""
    match one:
        case FunctionShift():
            return one.function, one.alias
        case ServiceShift():
            return one.cluster, one.service
        case ScalingGroup():
            return "autoscaling", one.group
    return None


def reversed_resource(one: Resource, token: str) -> Resource:
    """The way back: what was the replacement is the original now. `token` marks what is made for it."""
    if isinstance(one, FunctionShift):
        return replace(one, current=one.target, target=one.current)
    if isinstance(one, ScalingGroup):
        return replace(one, token=token)
    if isinstance(one, ExistingSets):
        return one
    return replace(one, current=one.target, target=one.current, original="", token=token)


def marked(one: Resource, token: str) -> Resource:
    """With the token of its deployment, where something is made for it."""
    return one if isinstance(one, FunctionShift | ExistingSets) else replace(one, token=token)


def revision_of(resources: Iterable[Resource]) -> Revision:
    """The revision that these are: its identity is the digest of their text, and there is no bundle to fetch."""
    return Revision(f"sha256:{hashlib.sha256(content_of(resources).encode()).hexdigest()}", "appspec:", "archive")


def content_of(resources: Iterable[Resource]) -> str:
    """The resources as JSON text: equal ones give equal texts, whatever deployment they are of."""
    plain = [replace(one, token="", original="") if isinstance(one, ServiceShift) else one for one in resources]
    return msgspec.json.encode(plain).decode()
