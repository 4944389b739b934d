"""Where on this host AppSpecs may install, as its owner says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shiftwork_contract.errors import InvalidRequest

Resolve = Callable[[str], str]


def within(roots: Sequence[str], resolve: Resolve) -> Resolve:
    """`resolve`, refusing what then lies below none of `roots`, whatever links lead there. No roots: anywhere."""
    if not roots:
        return resolve

    def resolved(path: str) -> str:
        found = resolve(path)
        if not any(_is_below(found, resolve(root)) for root in roots):
            leads = f", which leads to {found}," if found != path else ""
            raise InvalidRequest(
                f"cannot install to {path}{leads}: this host allows {', '.join(roots)} only; change the destination, or"
                " allowed_destinations in the agent's settings",
                code="DestinationNotAllowed",
            )
        return found

    return resolved


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
