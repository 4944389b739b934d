"""What the commands share on the command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from shiftwork_coordinator.cli import context

if TYPE_CHECKING:
    from shiftwork_coordinator.cli.client import Answer, Api

T = TypeVar("T")


class Call:
    """One run of one command: which coordinator it talks to, and in which form it answers."""

    def __init__(self, data: Path | None, output: str) -> None:
        self._data = data
        self.json = output == "json"

    def refined(self, data: Path | None, output: str) -> Call:
        """The same, unless told otherwise closer to the command."""
        return Call(data or self._data, "json" if self.json else output)

    def run(self, body: Callable[[Api], Awaitable[T]]) -> T:
        """The result of `body`, given a connection to the coordinator."""
        from shiftwork_coordinator.cli.client import connected

        async def whole() -> T:
            async with connected(context.find(self._data, os.environ)) as api:
                return await body(api)

        return asyncio.run(whole())

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Answer:
        """The answer to a single request."""
        return self.run(lambda api: api.ask(method, path, body, **query))


def api_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --output and --data, and passes them on as `call`."""

    @click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
    @click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Talk to the coordinator with this data directory, on this host.",
    )
    @wraps(command)
    def with_call(*args: Any, output: str, data: Path | None, **kwargs: Any) -> Any:
        context = click.get_current_context()
        outer = context.find_object(Call)
        call = outer.refined(data, output) if outer else Call(data, output)
        context.obj = call
        return command(*args, call=call, **kwargs)

    return with_call


class GroupName(click.ParamType[tuple[str, str]]):
    """APPLICATION/GROUP, as a pair."""

    name = "group"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        application, slash, group = str(value).partition("/")
        if not (application and slash and group):
            self.fail(f"cannot use {value!r} as a deployment group: write APPLICATION/GROUP, like web/production")
        return application, group


class Pair(click.ParamType[tuple[str, str]]):
    """KEY=VALUE, as a pair. `what` it is stands in the error."""

    name = "key=value"

    def __init__(self, what: str = "a tag", example: str = "Role=web") -> None:
        self._what, self._example = what, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"cannot use {value!r} as {self._what}: write KEY=VALUE, like {self._example}")
        return key, text


parameter_option = click.option(
    "--parameter",
    "parameters",
    multiple=True,
    type=Pair("a parameter", "WORKERS=8"),
    metavar="NAME=VALUE",
    help="A parameter that the group declares, for its hooks. May be given more than once.",
)


def deployment_path(deployment: str, *more: str) -> str:
    """The route of a deployment; ids are quoted, so that none can name another route."""
    return "/".join(["/v1/deployments", quote(deployment, safe=""), *more])
