"""Settings of a driver: what a person wrote, checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from shiftwork_contract.errors import InvalidRequest

T = TypeVar("T", bound=msgspec.Struct)


def read_settings(kind: str, type_: type[T], settings: Mapping[str, object]) -> T:
    """The settings as `type_`; InvalidRequest names the driver, the setting and what is wrong with it."""
    try:
        return msgspec.convert(dict(settings), type=type_)
    except msgspec.ValidationError as err:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(type_))
        raise InvalidRequest(
            f"cannot use load balancer `{kind}`: {err}; its settings are: {known}", code="INVALID_LOAD_BALANCER"
        ) from err


def several(kind: str, key: str, one: str, many: tuple[str, ...]) -> tuple[str, ...]:
    """`key` or its plural, whichever was given; InvalidRequest when both or one value twice."""
    if one and many:
        raise InvalidRequest(
            f"cannot use load balancer `{kind}`: `{key}` and `{key}s` are both given; keep one",
            code="INVALID_LOAD_BALANCER",
        )
    found = (one,) if one else many
    if len(set(found)) != len(found):
        raise InvalidRequest(
            f"cannot use load balancer `{kind}`: `{key}s` names one value twice; remove one",
            code="INVALID_LOAD_BALANCER",
        )
    return found
