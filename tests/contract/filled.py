"""Values with every field set, made from a type, and whether one structure says what another does."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

ODD: dict[str, Any] = {"file_exists_behavior": "OVERWRITE"}
"""Fields whose type says less than what is ever sent."""


def full(kind: Any) -> Any:
    """A value of this type in which no field, however deep, has its default."""
    return _value(inspect.type_info(kind))


def _value(info: inspect.Type) -> Any:
    match info:
        case inspect.StructType():
            return info.cls(**{f.name: ODD.get(f.name) or _field(f) for f in info.fields})
        case inspect.UnionType():
            return _value(next(t for t in reversed(info.types) if not isinstance(t, inspect.NoneType)))
        case inspect.VarTupleType():
            return (_value(info.item_type),)
        case inspect.ListType():
            return [_value(info.item_type)]
        case inspect.DictType():
            return {_value(info.key_type): _value(info.value_type)}
        case inspect.LiteralType():
            return list(info.values)[-1]
        case inspect.EnumType():
            return list(info.cls)[-1]
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 7.5
        case inspect.BytesType():
            return b"\xff\x00bytes"
        case inspect.StrType():
            return "text"
        case inspect.AnyType() | inspect.CustomType():
            return {"any": [1, None]}
    raise AssertionError(f"no value is known for {info}")


def _field(field: inspect.Field) -> Any:
    value = _value(field.type)
    return (not field.default) if isinstance(field.default, bool) else value


def says(more: Any, less: Any) -> bool:
    """Whether `more` has all that is in `less`, with the same values; it may have more members."""
    if isinstance(less, dict) and isinstance(more, dict):
        return all(key in more and says(more[key], value) for key, value in less.items())
    if isinstance(less, list) and isinstance(more, list):
        return len(more) == len(less) and all(map(says, more, less))
    return bool(more == less)


def plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(value))
