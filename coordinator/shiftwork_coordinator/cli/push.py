"""`shiftwork push`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import click

from shiftwork_coordinator.cli.options import Call, api_command

if TYPE_CHECKING:
    from shiftwork_contract.revision import Signed
    from shiftwork_coordinator.cli.client import Answer

PIECE = 256 * 1024
STATEMENT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="DIR|ARCHIVE")
@click.option("--application", required=True, metavar="APP", help="The application that the revision belongs to.")
@click.option("--description", metavar="TEXT", help="Shown with the revision.")
@click.option("--appspec", metavar="NAME", help="Check this AppSpec; default: appspec.yml. `deploy` names it again.")
@click.option("--signature", type=STATEMENT, metavar="FILE", help="The statement; its signature lies in FILE.sig.")
@click.option("--sign", "key", type=STATEMENT, metavar="KEY", help="Sign with this key, as `shiftwork sign` does.")
@api_command
def push(
    source: Path,
    application: str,
    description: str | None,
    appspec: str | None,
    signature: Path | None,
    key: Path | None,
    call: Call,
) -> None:
    """Upload a revision and print its id.

    A directory is packed first; an archive is a .tar, .tgz, .tar.gz or .zip. What is known already is not stored twice.
    """
    if signature and key:
        raise click.UsageError("cannot use both: --signature brings a signature, --sign makes one")
    with ExitStack() as stack:
        archive, kind = archive_of(source, stack)
        signed = _signed(archive, kind, application, signature, key)
        query = {"application": application, "type": kind, "description": description, "appspec": appspec}
        answer = _upload(archive, call, query)
    if signed is not None:
        answer = _attached(call, application, answer, signed)
    if call.json:
        click.echo(answer.pretty())
        return
    told = answer.read(dict[str, Any])
    from shiftwork_coordinator.cli.output import clean, size, tell

    known = "" if told.get("new", True) else "; the coordinator had it already"
    tell(f"{told.get('entries', '?')} entries, {size(int(told.get('size') or 0))}{known}")
    for warning in told.get("warnings") or ():
        tell(f"warning: {clean(str(warning))}")
    if signed is not None:
        tell(_described(signed))
    click.echo(told.get("revision", ""))


def _signed(archive: BinaryIO, kind: str, application: str, statement: Path | None, key: Path | None) -> Signed | None:
    """Before anything is sent: what cannot be signed, or read, uploads nothing."""
    if statement is None and key is None:
        return None
    from shiftwork_coordinator.cli import signatures

    if statement is not None:
        return signatures.read(statement)
    assert key is not None
    return signatures.sign(signatures.statement_for(archive, kind, application, expires=None, sequence=None), key)


def _attached(call: Call, application: str, pushed: Answer, signed: Signed) -> Answer:
    """The answer to the push, with what the coordinator says of the signature."""
    import msgspec

    from shiftwork_coordinator.cli.client import Answer

    told = pushed.read(dict[str, Any])
    path = f"/v1/revisions/{quote(str(told.get('revision', '')), safe=':')}/signature"
    answer = call.ask("PUT", path, msgspec.to_builtins(signed), application=application)
    return Answer(msgspec.json.encode(told | answer.read(dict[str, Any])))


def _described(signed: Signed) -> str:
    from shiftwork_contract.statement import facts, line

    return line(facts(signed))


def archive_of(source: Path, stack: ExitStack) -> tuple[BinaryIO, str]:
    """The archive to send, open at its beginning, and its type."""
    from shiftwork_contract.revision import bundle_type

    if not source.is_dir():
        kind = str(bundle_type(source.name))
        return stack.enter_context(source.open("rb")), kind
    from shiftwork_contract.archive import pack

    packed = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
    with Counted(packed.fileno(), _progress(f"Packing {source}", None)) as out:
        pack(source, out)
    return packed, "tgz"


def _upload(archive: BinaryIO, call: Call, query: dict[str, str | None]) -> Answer:
    length = archive.seek(0, 2)
    archive.seek(0)
    progress = _progress("Uploading", length)

    async def content() -> AsyncIterator[bytes]:
        sent = 0
        while piece := archive.read(PIECE):
            yield piece
            sent += len(piece)
            progress(sent)

    return call.run(lambda api: api.upload("/v1/revisions", content(), length, **query))


def _progress(what: str, total: int | None) -> Callable[[int], None]:
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.progress import Progress
    from shiftwork_coordinator.clock import SystemClock

    return Progress(what, total, SystemClock(), tell)


class Counted(io.BufferedWriter):
    """A file to write to, which tells how much was written. The descriptor stays its owner's."""

    def __init__(self, descriptor: int, told: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(descriptor, "wb", closefd=False))
        self._told, self._count = told, 0

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self._count += written
        self._told(self._count)
        return written
