"""The closed set of things that the shell can do for the engine. All may be repeated without harm."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec


class Register(msgspec.Struct, frozen=True):
    """Put the instance back into every balancer of the group."""

    instance: str
    verb: ClassVar[Literal["register"]] = "register"


class Deregister(msgspec.Struct, frozen=True):
    """Take the instance out of every balancer of the group."""

    instance: str
    verb: ClassVar[Literal["deregister"]] = "deregister"


Action = Register | Deregister
