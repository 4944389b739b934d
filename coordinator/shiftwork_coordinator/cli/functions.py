"""What `deploy` and `plan` take for groups of the platforms Lambda and ECS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from shiftwork_contract.errors import InvalidRequest

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.options import Call

F = TypeVar("F", bound=Callable[..., Any])
APPSPEC_ENDINGS = (".yml", ".yaml", ".json")


def function_options(command: F) -> F:
    """--function, --alias and --version, collected as `function`."""
    for option in (
        click.option("--version", "version", metavar="N", help="The published version to move the alias to."),
        click.option("--alias", metavar="ALIAS", help="The alias that is moved."),
        click.option("--function", metavar="NAME", help="A Lambda function, instead of an AppSpec."),
    ):
        command = option(command)
    return command


def task_definition_option(command: F) -> F:
    told = "A task definition for a group of platform ECS, instead of an AppSpec."
    return click.option("--task-definition", default="", metavar="ARN", help=told)(command)


def zip_option(command: F) -> F:
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    told = "The function's new code: published as a new version first."
    return click.option("--zip", "code", type=path, metavar="FILE", help=told)(command)


def source(
    call: Call,
    group: tuple[str, str],
    revision: str,
    function: str,
    alias: str,
    version: str,
    code: Path | None = None,
    task_definition: str = "",
) -> dict[str, object]:
    """What the request says of the revision. A zip is published first."""
    if task_definition:
        if revision or function or alias or version or code:
            raise click.UsageError("--task-definition goes without --revision and --function")
        return {"taskDefinition": task_definition}
    if not function:
        if alias or version or code:
            raise click.UsageError("--alias, --version and --zip go with --function")
        if not revision:
            raise click.UsageError(
                "name the revision: --revision, or --function with --alias and --version or --zip, or --task-definition"
            )
        return _appspec(revision) or {"revision": revision}
    if revision or not alias or bool(version) == (code is not None):
        raise click.UsageError("--function goes with --alias and one of --version and --zip, and without --revision")
    if code is not None:
        version = _published(call, group, function, code)
    return {"function": {"name": function, "alias": alias, "version": version}}


def _appspec(revision: str) -> dict[str, object] | None:
    """An AppSpec that lies here, for a platform without bundles."""
    path = Path(revision)
    if ":" in revision or path.suffix not in APPSPEC_ENDINGS:
        return None
    try:
        return {"appspecContent": path.read_text("utf-8")}
    except (OSError, UnicodeError) as err:
        raise InvalidRequest(f"cannot read the AppSpec {path}: {getattr(err, 'strerror', '') or err}") from err


def _published(call: Call, group: tuple[str, str], function: str, code: Path) -> str:
    from shiftwork_coordinator.cli.output import tell

    data = code.read_bytes()

    async def content() -> AsyncIterator[bytes]:
        yield data

    path = f"/v1/functions/{quote(group[0])}/{quote(group[1])}/{quote(function, safe='')}"
    answer = call.run(lambda api: api.upload(path, content(), len(data)))
    version = str(answer.read(dict[str, Any])["version"])
    tell(f"Published version {version} of {function}")
    return version
