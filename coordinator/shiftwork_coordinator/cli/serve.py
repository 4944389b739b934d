"""`shiftwork serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from shiftwork_coordinator.cli.context import default_data

LISTEN = "0.0.0.0:7070"


class Address(click.ParamType[str]):
    """HOST:PORT, as it was written."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, colon, port = str(value).rpartition(":")
        if not (colon and host and port.isdigit() and int(port) < 65536):
            self.fail(f"cannot listen on {value!r}: write HOST:PORT, like {LISTEN} or [::]:7070")
        return str(value)


@click.command()
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="All that it remembers.")
@click.option("--listen", type=Address(), default=LISTEN, show_default=True, metavar="HOST:PORT")
@click.option("--database", metavar="URL", help="postgresql://…; default: a SQLite file in the data directory.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Another name agents reach it by; may be repeated."
)
def serve(data: Path | None, listen: str, database: str | None, config: Path | None, names: tuple[str, ...]) -> int:
    """Run the coordinator in this process.

    The data directory defaults to /var/lib/shiftwork for root, else to ~/.local/share/shiftwork.
    """
    from shiftwork_coordinator.main import serve as run

    return run(data or default_data(os.environ, os.getuid()), listen, database, config, names)
