"""What the AppSpecs of platforms without bundles share."""

from __future__ import annotations

from collections.abc import Collection

from shiftwork_contract.yamlmarks import Marked


def lowered(marked: Marked) -> dict[str, Marked]:
    """Members by key in lower case: samples in the wild write both `Resources` and `resources`. A key without a value
    is not there."""
    return {key.lower(): member for key, member in marked.mapping().items() if not member.is_null}


def check_version(root: Marked, members: dict[str, Marked]) -> None:
    value = needed(root, members, "version").scalar()
    if isinstance(value, bool) or value not in (0, 0.0, "0.0"):
        raise members["version"].fail(f"`version` must be 0.0, not {members['version'].shown}")


def needed(marked: Marked, members: dict[str, Marked], key: str) -> Marked:
    if key not in members:
        raise marked.fail(f"`{marked.path or 'the AppSpec'}` needs `{key}`")
    return members[key]


def function_hooks(marked: Marked, events: Collection[str]) -> dict[str, str]:
    """The function for each event: a list of mappings with one key each, as CodeDeploy writes it."""
    hooks: dict[str, str] = {}
    for item in marked.items():
        for event, function in item.mapping().items():
            if event not in events:
                raise function.fail(f"`{event}` is no hook here; there are {', '.join(events)}")
            if event in hooks:
                raise function.fail(f"`{event}` is named twice")
            hooks[event] = function.text()
    return hooks
