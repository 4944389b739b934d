"""AppSpecs that come with a request, instead of in a bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from shiftwork_contract.errors import AppSpecError, InvalidRequest

Spec = TypeVar("Spec")


def parsed(parse: Callable[[str], Spec], content: str) -> Spec:
    """Raises InvalidRequest, with the place of the first problem and CodeDeploy's code."""
    try:
        return parse(content)
    except AppSpecError as err:
        raise InvalidRequest(
            f"cannot deploy this AppSpec: {err.message}; correct it there", code="InvalidRevisionException"
        ) from err
