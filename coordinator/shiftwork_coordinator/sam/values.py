"""Properties of one thing in a template, each asked for as what it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.sam.intrinsics import Scope, Unknown, resolve

T = TypeVar("T")


class Told:
    """What can be told of several properties: one that cannot is its default, and `untold` says why."""

    def __init__(self) -> None:
        self.untold: tuple[str, ...] = ()

    def __call__(self, ask: Callable[[str], T], key: str, default: T) -> T:
        try:
            return ask(key)
        except InvalidRequest as err:
            self.untold += (err.message,)
            return default


class Values:
    """Resolved when they are asked for; one that cannot be told raises InvalidRequest, with its place."""

    def __init__(self, where: str, values: Any, scope: Scope) -> None:
        self.where, self._values, self._scope = where, values if isinstance(values, Mapping) else {}, scope

    def get(self, key: str) -> Any:
        return resolve(self._values.get(key), self._scope)

    def within(self, key: str) -> Values:
        """The properties inside one of them."""
        found = self.get(key)
        if isinstance(found, Unknown):
            raise self._untold(key, found)
        return Values(f"{self.where}.{key}", found, self._scope)

    def text(self, key: str) -> str:
        return self._text(key, self.get(key))

    def function(self, key: str) -> str:
        """A function's name; its ARN will do, too."""
        found = self.get(key)
        return found.function if isinstance(found, Unknown) and found.function else self._text(key, found)

    def flag(self, key: str, default: bool) -> bool:
        found = self.get(key)
        return default if found in (None, "") else self._text(key, found).lower() in ("true", "yes", "on")

    def names(self, key: str, inner: str = "") -> tuple[str, ...]:
        """A list of strings, or of what has a string at `inner`; in its order, each once."""
        found = self.get(key)
        if isinstance(found, Unknown):
            raise self._untold(key, found)
        if found is not None and not isinstance(found, list):
            raise InvalidRequest(f"{self.where}: {key} must be a list")
        items = [item.get(inner) if inner and isinstance(item, Mapping) else item for item in found or ()]
        return tuple(dict.fromkeys(self._text(key, item) for item in items))

    def triggers(self, key: str) -> tuple[dict[str, Any], ...]:
        """TriggerConfigurations, as a group's `triggers`."""
        found = self.get(key)
        if isinstance(found, Unknown):
            raise self._untold(key, found)
        if found is not None and not isinstance(found, list):
            raise InvalidRequest(f"{self.where}: {key} must be a list")
        each = [Values(f"{self.where}.{key}", item, self._scope) for item in found or ()]
        return tuple(one.trigger() for one in each)

    def trigger(self) -> dict[str, Any]:
        events = list(self.names("TriggerEvents"))
        return {"name": self.text("TriggerName"), "sns": self.text("TriggerTargetArn"), "events": events}

    def _text(self, key: str, value: Any) -> str:
        if isinstance(value, Unknown):
            raise self._untold(key, value)
        if value is not None and not isinstance(value, str | int | bool):
            raise InvalidRequest(f"{self.where}: {key} must be a string")
        return "" if value is None else str(value)

    def _untold(self, key: str, value: Unknown) -> InvalidRequest:
        return InvalidRequest(f"{self.where}: {key} cannot be told: {value.why}")
