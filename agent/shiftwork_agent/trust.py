"""What may run on this host, as its owner says: which signatures are needed, whose, and how far back one may go.

Nothing here can be changed by a message of the coordinator.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol

import msgspec

from shiftwork_agent import accepted
from shiftwork_agent.clock import Clock
from shiftwork_agent.layout import DEFAULT_SIGNERS
from shiftwork_agent.signers import Answer, Question
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_contract.messages import Command
from shiftwork_contract.revision import Revision, Signed
from shiftwork_contract.statement import Statement, fitting

CHECK_WITHIN = 30.0
_RUNS_CODE = re.compile(
    r"PATH|IFS|ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|BASH_.*|LD_.*|GCONV_PATH|GLIBC_.*|PYTHON.*|PERL.*|RUBY.*"
    r"|NODE_OPTIONS|NODE_PATH|LUA_.*|PHP.*|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|GIT_.*|EDITOR|VISUAL|PAGER"
    r"|SHELL|HOME|XDG_.*|(?:GNU)?MAKEFLAGS|TAR_OPTIONS|ZIPOPT|RSYNC_.*|LESSOPEN|LESSCLOSE|VIMINIT|EXINIT|(?i:NPM_CONFIG)_.*"
    r"|BUNDLE_.*|GEM_.*|DOTNET_.*|OPENSSL_.*|(?:SSH|SUDO)_ASKPASS"
    r"|.*[^A-Za-z0-9_].*|"
)
"""Variables by which an interpreter, the loader or a common tool is told to run something else."""


class Policy(msgspec.Struct, frozen=True):
    """Of agent.yml: `signers` is the path of the allowed_signers file, `window` how many accepted statements may be
    gone back to."""

    required: bool = False
    signers: str = DEFAULT_SIGNERS
    window: int = 10

    @property
    def checks(self) -> bool:
        """A signature that came along is also checked where none is required, if anybody is allowed to sign at all."""
        return self.required or Path(self.signers).exists()


class Admitted(msgspec.Struct, frozen=True):
    """A command whose signed statement holds here, and the fingerprint of who signed it."""

    command: Command
    statement: Statement
    signer: str


Installed = Callable[[], Collection[str]]
"""The digests of the trees that are installed on this host."""


class Ask(Protocol):
    def __call__(self, question: Question) -> Awaitable[Answer]: ...


class Trust:
    """`memory` is the file of what was accepted; `ask` says whose a signature is."""

    def __init__(self, policy: Policy, memory: Path, clock: Clock, ask: Ask | None = None) -> None:
        self._policy, self._memory, self._clock = policy, memory, clock
        self._ask = ask or asked_in_child
        self._turn = asyncio.Lock()

    async def admit(self, command: Command, tree: str, installed: Installed) -> Admitted | None:
        """Returns if the revision may run here; None where nothing needs a signature. `tree` is its tree digest, empty
        where it is not known yet. Raises InvalidRequest that names revision, signer and remedy. Remembers nothing.
        """
        revision = command.revision
        self.admit_variables(command)
        if revision.signed is None:
            if self._policy.required:
                raise _refused(command, "", "it is not signed, and this host requires it (require_signed)")
            return None
        statement = fitting(revision.signed, command.application, tree or _tree(revision))
        if not await asyncio.to_thread(lambda: self._policy.checks):
            return None
        signer = await self._signer(revision.signed, command)
        admitted = Admitted(command, statement, signer)
        await asyncio.to_thread(self._judge, admitted, installed)
        return admitted

    def admit_variables(self, command: Command) -> None:
        """Returns if the command's environment may be given to scripts here. Raises InvalidRequest."""
        if self._policy.required:
            _refuse_variables(command)

    async def accept(self, admitted: Admitted, installed: Installed) -> None:
        """From now on no statement with a lower sequence is new here. Raises as `admit` does."""
        async with self._turn:
            await asyncio.to_thread(self._note, admitted, installed)

    async def _signer(self, signed: Signed, command: Command) -> str:
        question = Question(
            signed.statement, signed.signature, command.application, self._policy.signers, self._clock.wall()
        )
        found = await self._ask(question)
        if found.problem:
            raise _refused(command, found.signer, found.problem)
        return found.signer

    def _judge(self, admitted: Admitted, installed: Installed) -> None:
        statement = admitted.statement
        former = accepted.load(self._memory).of(statement.application)
        problem = accepted.judge(statement, former, installed(), self._policy.window, self._clock.wall())
        if problem:
            raise _refused(admitted.command, admitted.signer, problem)

    def _note(self, admitted: Admitted, installed: Installed) -> None:
        self._judge(admitted, installed)
        memory = accepted.load(self._memory)
        after = accepted.noted(memory, admitted.statement, admitted.signer, installed(), self._clock.wall())
        if after is not memory:
            accepted.save(self._memory, after)


async def asked_in_child(question: Question) -> Answer:
    """`signing.answer` in a process of its own, so that `cryptography` never enters the daemon."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "shiftwork_agent.signing", stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(CHECK_WITHIN):
            out, err = await process.communicate(msgspec.json.encode(question))
        return msgspec.json.decode(out, type=Answer)
    except msgspec.MsgspecError as problem:
        said = err.decode("utf-8", "replace").strip().rpartition("\n")[2] or "the check ended without an answer"
        raise ShiftworkError(f"cannot check the signature: {said}") from problem
    except TimeoutError as problem:
        raise ShiftworkError(f"cannot check the signature within {CHECK_WITHIN:g} s") from problem
    finally:
        if process.returncode is None:
            process.kill()


def _tree(revision: Revision) -> str:
    return revision.identity if revision.digest_of == "tree" else ""


def _refuse_variables(command: Command) -> None:
    """Signed scripts, and a variable that makes their shell run something else, would be an unsigned script."""
    wrong = sorted(name for name in command.environment if _RUNS_CODE.fullmatch(name))
    if wrong:
        raise InvalidRequest(
            f"cannot run {command.application} with the variable {wrong[0][:80]!r}: it can make a script run something"
            " that nobody signed (require_signed); take it out of the group's environment, or set it in the script",
            code="UnsignedCode",
        )


def _refused(command: Command, signer: str, why: str) -> InvalidRequest:
    by = f" signed by {signer}" if signer else ""
    return InvalidRequest(
        f"cannot run revision {command.revision.identity} of {command.application}{by}: {why}; sign it with"
        f" `shiftwork sign --application {command.application}`, and push or deploy it with --signature",
        code="NotTrusted",
    )
