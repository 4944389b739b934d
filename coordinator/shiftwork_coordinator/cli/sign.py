"""`shiftwork sign`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from shiftwork_coordinator.cli.tokens import Duration


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="DIR|ARCHIVE")
@click.option("--application", required=True, metavar="APP", help="The application that it may run as.")
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("~/.ssh/id_ed25519"),
    show_default=True,
    help="The private key, or the public one of a key that ssh-agent or hardware holds.",
)
@click.option("--expires", type=Duration(), metavar="TIME", help="For how long it may run, like 30d; default: 90d.")
@click.option("--sequence", type=click.IntRange(1, (1 << 53) - 1), metavar="N", help="Default: from the time of day.")
@click.option("--write", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where to.")
@click.option("--statement-only", is_flag=True, help="Print what is to be signed, and sign nothing.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def sign(
    source: Path,
    application: str,
    key: Path,
    expires: float | None,
    sequence: int | None,
    target: Path | None,
    statement_only: bool,
    output: str,
) -> None:
    """Sign a revision, for hosts that run only what was signed.

    Writes FILE (the statement) and FILE.sig (OpenSSH's signature of it), by default SOURCE.statement beside the source.
    By hand: sign what --statement-only prints, with `ssh-keygen -Y sign -n shiftwork -f KEY FILE`.
    """
    import msgspec

    from shiftwork_contract.statement import facts, line
    from shiftwork_coordinator.cli import signatures
    from shiftwork_coordinator.cli.output import tell
    from shiftwork_coordinator.cli.push import archive_of

    with ExitStack() as stack:
        archive, kind = archive_of(source, stack)
        statement = signatures.statement_for(archive, kind, application, expires=expires, sequence=sequence)
    if statement_only:
        click.echo(statement, nl=False)
        return
    signed = signatures.sign(statement, key.expanduser())
    place = target or source.resolve().with_name(f"{source.resolve().name}.statement")
    place.write_text(signed.statement)
    signatures.signature_file(place).write_text(signed.signature)
    if output == "json":
        told = msgspec.to_builtins(facts(signed)) | {"statement": str(place)}
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        tell(line(facts(signed)))
        click.echo(str(place))
