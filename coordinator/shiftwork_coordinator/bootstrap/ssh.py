"""The real SSH, by asyncssh: agent, keys, certificates and jump hosts as ~/.ssh/config has them."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.bootstrap.ports import OUTPUT_LIMIT, HostProblem, Progress, Ran, Session
from shiftwork_coordinator.bootstrap.targets import Target

CONNECT_WITHIN, LOGIN_WITHIN = 15, 30
ALIVE_EVERY, ALIVE_TIMES = 15, 3
PIECE = 32 * 1024
WRITES = 8
"""Pieces of a file under way at a time: enough for a long line, and bounds what a hundred copies keep in memory."""
FAST = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Preferred unless the SSH configuration names ciphers: half of the processor time that asyncssh's own choice takes."""
KNOWN_HOSTS = Path("~/.ssh/known_hosts")


@dataclass(frozen=True)
class Access:
    """How to get in. No `known_hosts`: the ones that the SSH configuration names. `accept_new` writes to the first."""

    identities: tuple[Path, ...] = ()
    known_hosts: Path | None = None
    accept_new: bool = False
    config: Path | None = None
    connect_within: float = CONNECT_WITHIN


class SshDialer:
    """ports.Dialer. Raises InvalidRequest for keys that cannot be used, before any host is dialled."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._options: dict[str, Any] = {
            "connect_timeout": access.connect_within,
            "login_timeout": LOGIN_WITHIN,
            "keepalive_interval": ALIVE_EVERY,
            "keepalive_count_max": ALIVE_TIMES,
            "password": None,
            "kbdint_auth": False,
            "password_auth": False,
        }
        self._config: Any = [str(access.config)] if access.config is not None else ()
        if access.identities:
            self._options |= {"client_keys": _keys(access.identities)}

    @asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator[Session]:
        doorman = Doorman(target, self._access.accept_new)
        async with await self._connected(target, doorman) as connection:
            doorman.remember()
            yield SshSession(target, connection)

    async def _connected(self, target: Target, doorman: Doorman) -> asyncssh.SSHClientConnection:
        named: dict[str, Any] = {"username": target.user} if target.user else {}
        port: dict[str, Any] = {"port": target.port} if target.port else {}
        try:
            options = asyncssh.SSHClientConnectionOptions(
                host=target.host, config=self._config, **self._options, **named, **port
            )
            doorman.files = _known_hosts(self._access.known_hosts, options)
            ciphers = {} if options.config.get("Ciphers") else {"encryption_algs": FAST}
            return await asyncssh.connect(
                target.host,
                **port,
                **ciphers,
                options=options,
                config=self._config,  # once more: it is what a jump host is reached by
                known_hosts=doorman.known,
                client_factory=lambda: doorman,
            )
        except (asyncssh.Error, OSError, ValueError) as err:
            raise doorman.refusal or _not_let_in(target, err) from err


@dataclass
class Doorman(asyncssh.SSHClient):
    """Decides about a host key that is not known, and says afterwards why nobody was let in."""

    target: Target
    accept_new: bool
    files: tuple[Path, ...] = ()
    refusal: HostProblem | None = None
    accepted: str = field(default="", repr=False)
    expected: bool = False

    def known(self, host: str, addr: str, port: int | None) -> Any:
        """The keys that the files have for the host, as asyncssh wants them."""
        there = [str(file) for file in self.files if file.is_file()]
        found = asyncssh.read_known_hosts(there).match(host, addr, port) if there else ((), (), (), (), (), (), ())
        self.expected = bool(found[0] or found[1])
        return found

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        if self.expected:
            self.refusal = HostProblem(
                f"cannot trust {self.target}: its host key has changed; it shows {shown}, which is not in"
                f" {self._where()}",
                f"if the host was installed anew, run `ssh-keygen -R {_pattern(host, port)}` and compare the new key",
            )
        elif not self.accept_new:
            self.refusal = HostProblem(
                f"cannot trust {self.target}: its host key is not in {self._where()}; it shows {shown}",
                "compare the fingerprint and log in once with ssh, or use --accept-new-host-keys",
            )
        else:
            text = key.export_public_key().decode().split()
            self.accepted = f"{_pattern(host, port)} {text[0]} {text[1]}\n"
        return self.refusal is None

    def remember(self) -> None:
        """Writes down the key that was accepted, once the host has proven that it holds it."""
        if self.accepted:
            file = self.files[0]
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("a") as out:
                out.write(self.accepted)

    def _where(self) -> str:
        return " or ".join(map(str, self.files))


@dataclass(frozen=True)
class SshSession:
    """ports.Session over one connection."""

    target: Target
    connection: asyncssh.SSHClientConnection

    async def run(self, command: str, stdin: bytes = b"") -> Ran:
        try:
            async with self.connection.create_process(command, stderr=asyncssh.STDOUT, encoding=None) as process:
                process.stdin.write(stdin)
                process.stdin.write_eof()
                output = await _read(process.stdout)
                ended = await process.wait()
        except (asyncssh.Error, OSError) as err:
            raise self._lost(err) from err
        code = ended.exit_status if ended.exit_status is not None and ended.exit_status >= 0 else 255
        return Ran(code, output.decode(errors="replace"))

    async def copy(self, source: Path, to: str, progress: Progress) -> None:
        try:
            async with self.connection.start_sftp_client() as sftp:
                await sftp.put(
                    str(source),
                    to,
                    max_requests=WRITES,
                    progress_handler=lambda _from, _to, done, _all: progress(done),
                )
        except (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded, asyncssh.SFTPFailure) as err:
            raise HostProblem(f"cannot copy {source.name} to {to}: {_text(err)}", "make room there") from err
        except (asyncssh.Error, OSError) as err:
            raise self._lost(err, " (copying needs its sftp subsystem)") from err

    def _lost(self, err: Exception, more: str = "") -> HostProblem:
        return HostProblem(f"cannot go on with {self.target}: the connection broke: {_text(err)}{more}", "run it again")


async def _read(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """To the end, keeping the last OUTPUT_LIMIT bytes: a host that floods us fills no memory."""
    kept = b""
    while piece := await stream.read(PIECE):
        kept = (kept + piece)[-OUTPUT_LIMIT:]
    return kept


def _keys(identities: Sequence[Path]) -> Sequence[asyncssh.SSHKeyPair]:
    for path in identities:
        try:
            asyncssh.read_private_key(str(path))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as err:
            raise InvalidRequest(
                f"cannot use the key {path}: {err}; one with a passphrase goes through the agent: ssh-add {path}"
            ) from err
    return list(asyncssh.load_keypairs([str(path) for path in identities]))


def _known_hosts(given: Path | None, options: asyncssh.SSHClientConnectionOptions) -> tuple[Path, ...]:
    """`none` in the SSH configuration is not obeyed: whoever answers there would become root on our fleet's word."""
    if given is not None:
        return (given,)
    told = options.known_hosts
    named = told if isinstance(told, list) else [told] if isinstance(told, str) else []
    return tuple(Path(str(each)).expanduser() for each in named) or (KNOWN_HOSTS.expanduser(),)


def _pattern(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"


def _not_let_in(target: Target, err: Exception) -> HostProblem:
    match err:
        case asyncssh.PermissionDenied():
            user = target.user or getpass.getuser()
            return HostProblem(
                f"cannot log in to {target} as {user}: no key is accepted",
                "name one with --identity, add it to the SSH agent, or name the right user",
            )
        case asyncssh.HostKeyNotVerifiable():
            return HostProblem(
                f"cannot trust {target}, or the jump host before it: {_text(err)}", "log in once with ssh to check it"
            )
        case asyncssh.KeyExchangeFailed():
            return HostProblem(
                f"cannot agree with {target} on keys: {_text(err)}",
                "the host key may have changed its kind: compare it, then run `ssh-keygen -R`",
            )
        case TimeoutError() | asyncssh.ConnectionLost():
            return HostProblem(f"cannot reach {target}: {_text(err)}", "check the address and the network")
        case OSError():
            return HostProblem(f"cannot reach {target}: {_text(err)}", "check the address, and that sshd listens there")
        case asyncssh.Error():
            return HostProblem(f"cannot connect to {target}: {_text(err)}", "try `ssh -v` to it")
        case _:
            return HostProblem(f"cannot use the SSH settings for {target}: {err}", "mend ~/.ssh/config")


def _text(err: Exception) -> str:
    if isinstance(err, asyncio.TimeoutError) and not str(err):
        return "no answer in time"
    return str(getattr(err, "reason", "") or getattr(err, "strerror", "") or err) or type(err).__name__
