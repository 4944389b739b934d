"""The closed set of things that the shell can do for the engine. All may be repeated without harm."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from shiftwork_coordinator.model.arrangement import Arrangement


class Register(msgspec.Struct, frozen=True):
    """Put the instance back into every balancer of the group."""

    instance: str
    verb: ClassVar[Literal["register"]] = "register"


class Deregister(msgspec.Struct, frozen=True):
    """Take the instance out of every balancer of the group."""

    instance: str
    verb: ClassVar[Literal["deregister"]] = "deregister"


class SetWeight(msgspec.Struct, frozen=True):
    """Give the replacement this share of the resource's traffic, 0 to 1."""

    instance: str
    weight: float
    verb: ClassVar[Literal["weight"]] = "weight"


class Arrange(msgspec.Struct, frozen=True):
    """Bring original and replacement into this arrangement."""

    instance: str
    wanted: Arrangement
    verb: ClassVar[Literal["arrange"]] = "arrange"


class Invoke(msgspec.Struct, frozen=True):
    """Invoke the hook function of this event, whose run is in a row."""

    instance: str
    event: str
    verb: ClassVar[Literal["invoke"]] = "invoke"


Action = Register | Deregister | SetWeight | Arrange | Invoke
