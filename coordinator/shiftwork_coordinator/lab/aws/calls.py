"""Which operation of which service an HTTP request to AWS asks for, in every protocol that AWS speaks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

SERVICES = {"monitoring": "cloudwatch", "elasticloadbalancing": "elbv2"}
"""Names in signatures, where they differ from the SDK's. Classic load balancers are told apart by their version."""
CLASSIC_ELB = "2012-06-01"
LONGEST = 1000
"""Characters of a value that are worth recording."""


class Call(msgspec.Struct, frozen=True):
    service: str
    operation: str
    parameters: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"


def parse(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    """What cannot be told has an empty operation; it is passed on all the same."""
    service = _service(headers.get("Authorization", ""))
    if target := headers.get("X-Amz-Target", ""):
        return Call(service, target.rpartition(".")[2], _json(body))
    form = dict(parse_qsl(body.decode("latin-1"))) if _is_form(headers) else {}
    if action := form.pop("Action", "") or dict(parse_qsl(query)).get("Action", ""):
        name = "elb" if service == "elbv2" and form.get("Version") == CLASSIC_ELB else service
        return Call(name, action, nested(form))
    return _rest(service, method, path, query, headers, body)


def _service(authorization: str) -> str:
    found = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request", authorization)
    name = found.group(1) if found else ""
    return SERVICES.get(name, name)


def _is_form(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rest(service: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    asked = dict(parse_qsl(query, keep_blank_values=True))
    for name, verb, pattern, needed in _routes(service):
        found = pattern.fullmatch(path) if verb == method else None
        if found and needed <= asked.keys():
            labels = {label: unquote(value) for label, value in found.groupdict().items()}
            kind = {"InvocationType": headers["X-Amz-Invocation-Type"]} if "X-Amz-Invocation-Type" in headers else {}
            told = {} if name == "Invoke" else _json(body)
            return Call(service, name, {**labels, **asked, **kind, **told})
    return Call(service, "", {})


Route = tuple[str, str, re.Pattern[str], frozenset[str]]


@cache
def _routes(service: str) -> tuple[Route, ...]:
    """Of a REST service, by the SDK's own model; the most particular first."""
    from botocore.exceptions import UnknownServiceError
    from botocore.session import Session

    try:
        model = Session().get_service_model(service)
    except UnknownServiceError:
        return ()
    found = [_route(name, model.operation_model(name).http) for name in model.operation_names]
    return tuple(sorted(found, key=lambda route: (-len(route[3]), -len(route[2].pattern))))


def _route(name: str, http: Mapping[str, Any]) -> Route:
    path, _, query = str(http["requestUri"]).partition("?")
    pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(path))
    needed = frozenset(part.partition("=")[0] for part in query.split("&") if part)
    return name, str(http["method"]), re.compile(pattern + "/?"), needed


def nested(form: Mapping[str, str]) -> dict[str, Any]:
    """`{"A.member.1.B": "x"}` as `{"A": [{"B": "x"}]}`, the way query services spell lists and structures."""
    tree: dict[str, Any] = {}
    for key, value in form.items():
        *path, last = [part for part in key.split(".") if part != "member"]
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return {key: _listed(value) for key, value in tree.items() if key != "Version"}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if all(key.isdigit() for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(item) for key, item in value.items()}


def told(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth recording of a call's parameters: no code, nothing long."""
    return {key: value for key, value in parameters.items() if len(json.dumps(value, default=str)) <= LONGEST}
