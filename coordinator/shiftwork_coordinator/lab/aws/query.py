"""Calls of query services (XML answers) in plain values, by the SDK's own model of each service."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.aws.exchange import Answer
from shiftwork_coordinator.lab.aws.moto import SIGNED, Moto

SIGNING = {"elbv2": "elasticloadbalancing", "elb": "elasticloadbalancing"}
"""Names in signatures, where they differ from the SDK's."""


async def ask(moto: Moto, service: str, operation: str, **parameters: Any) -> Any:
    """What moto answers. Raises Unavailable when it refuses."""
    from botocore.serialize import create_serializer

    request = create_serializer("query").serialize_to_request(parameters, _operation(service, operation))
    signed = {"Authorization": SIGNED.format(SIGNING.get(service, service))}
    answered = await moto.ask("POST", "/", {**request["headers"], **signed}, urlencode(request["body"]).encode())
    if not answered.fine:
        text = answered.body.decode(errors="replace")[:300]
        raise Unavailable(f"cannot call {service}:{operation}: moto answered {answered.status} {text}")
    return read(service, operation, answered)


def read(service: str, operation: str, answered: Answer) -> Any:
    from botocore.parsers import create_parser

    told = {"status_code": answered.status, "headers": dict(answered.headers), "body": answered.body}
    return create_parser("query").parse(told, _operation(service, operation).output_shape)


def answer(service: str, operation: str, value: Mapping[str, Any] | None = None) -> Answer:
    """As the service would spell `value`."""
    shape = _operation(service, operation).output_shape
    root = ElementTree.Element(f"{operation}Response")
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
        _write(ElementTree.SubElement(root, wrapper), shape, value or {})
    about = ElementTree.SubElement(root, "ResponseMetadata")
    ElementTree.SubElement(about, "RequestId").text = "lab"
    return Answer(200, ElementTree.tostring(root), {"Content-Type": "text/xml"})


def _write(element: ElementTree.Element, shape: Any, value: Any) -> None:
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                spelt = member.serialization.get("name", name)
                _write(ElementTree.SubElement(element, spelt), member, value[name])
    elif shape.type_name == "list":
        spelt = shape.member.serialization.get("name", "member")
        for item in value:
            _write(ElementTree.SubElement(element, spelt), shape.member, item)
    else:
        element.text = str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _operation(service: str, operation: str) -> Any:
    return _model(service).operation_model(operation)


@cache
def _model(service: str) -> Any:
    from botocore.session import Session

    return Session().get_service_model(service)
