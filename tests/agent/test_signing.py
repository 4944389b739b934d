"""Signatures: those of the real ssh-keygen hold, and nothing that differs from them in anything does."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from shiftwork_agent.signers import Answer, Question, load, matches, parse
from shiftwork_agent.signing import answer
from shiftwork_contract import sshsig
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import Signed

from .signatures import DAY, NOW, allow, armor, key, signed

KINDS = (("ed25519",), ("ecdsa", "-b256"), ("ecdsa", "-b384"), ("ecdsa", "-b521"), ("rsa", "-b2048"), ("rsa", "-b3072"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def ask(given: Signed, signers: Path, application: str = "web", now: float = NOW + 1) -> Answer:
    return answer(Question(given.statement, given.signature, application, str(signers), now))


@pytest.mark.parametrize("kind", KINDS, ids="".join)
def test_what_ssh_keygen_signs_holds_and_nothing_else(kind: tuple[str, ...], keys: Path, tmp_path: Path) -> None:
    by = key(keys, *kind)
    signers = allow(tmp_path / "signers", f'web,api namespaces="shiftwork" {by.public} somebody')
    good = signed(by)
    assert ask(good, signers) == Answer(by.fingerprint)
    changed = Signed(good.statement.replace('"sequence":1', '"sequence":2'), good.signature)
    assert "one of them was changed" in ask(changed, signers).problem


def flipped(text: str, at: int) -> str:
    lines = text.strip().splitlines()
    data = bytearray(base64.b64decode("".join(lines[1:-1])))
    data[at] ^= 1
    return "\n".join([lines[0], base64.b64encode(bytes(data)).decode(), lines[-1]]) + "\n"


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa", "-b256"), ("rsa", "-b2048")], ids="".join)
def test_no_changed_bit_of_a_signature_is_taken(kind: tuple[str, ...], keys: Path, tmp_path: Path) -> None:
    by = key(keys, *kind)
    signers = allow(tmp_path / "signers", f"* {by.public}")
    good = signed(by)
    size = len(base64.b64decode("".join(good.signature.strip().splitlines()[1:-1])))
    for at in range(size):
        assert ask(Signed(good.statement, flipped(good.signature, at)), signers).problem, at


HOSTILE_ARMOR = {
    "empty": ("", "does not begin"),
    "only the frame": (f"{sshsig.BEGIN}\n{sshsig.END}\n", "does not begin"),
    "no base64": (f"{sshsig.BEGIN}\n$$$$\n{sshsig.END}\n", "not base64"),
    "garbage": (f"{sshsig.BEGIN}\n{base64.b64encode(b'x' * 300).decode()}\n{sshsig.END}\n", "no SSH signature"),
    "cut off": (f"{sshsig.BEGIN}\n{base64.b64encode(b'SSHSIG' + bytes(3)).decode()}\n{sshsig.END}\n", "cut off"),
    "a length of 4 GiB": (
        f"{sshsig.BEGIN}\n{base64.b64encode(b'SSHSIG' + (1).to_bytes(4, 'big') + bytes([255] * 8)).decode()}\n"
        f"{sshsig.END}\n",
        "cut off",
    ),
    "huge": ("A" * (1 << 20), "at most 16384"),
    "version 2": (
        f"{sshsig.BEGIN}\n{base64.b64encode(b'SSHSIG' + bytes([0, 0, 0, 2])).decode()}\n{sshsig.END}",
        "version 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_ARMOR)
def test_hostile_armor_is_refused_in_words(name: str, keys: Path, tmp_path: Path) -> None:
    text, part = HOSTILE_ARMOR[name]
    by = key(keys)
    found = ask(Signed(signed(by).statement, text), allow(tmp_path / "signers", f"* {by.public}"))
    assert part in found.problem and "shiftwork sign" in found.problem


def test_another_namespace_is_refused(keys: Path, tmp_path: Path) -> None:
    by = key(keys)
    found = ask(signed(by, namespace="git"), allow(tmp_path / "signers", f"* {by.public}"))
    assert found == Answer(by.fingerprint, "it was made for the namespace 'git', not 'shiftwork'")


LINES = {
    "a stranger": ("* {other}", "the key is not in"),
    "nobody": ("# nobody yet", "the key is not in"),
    "another application": ("api {by}", "allows the key for api, not for web"),
    "shut out": ("*,!web {by}", "allows the key for *,!web, not for web"),
    "another namespace": ('* namespaces="git,file" {by}', "in the namespaces git,file"),
    "later": ("* valid-after=20990101 {by}", "later only"),
    "earlier": ('* valid-before="20200101Z" {by}', "earlier only"),
    "an authority's key": ("* cert-authority {by}", "the key is not in"),
    "another option": ("* no-touch-required {by}", "line 1: the option 'no-touch-required' is not known"),
    "no key": ("web ssh-ed25519", "line 1: it is not `principals"),
    "half a key": ("* {by}x", "line 1"),
    "another type": ("* ssh-rsa {blob}", "not of the type"),
    "an open quote": ('* namespaces="x {by}', "quote is not closed"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_line_lets_in_no_more_than_it_says(name: str, keys: Path, tmp_path: Path) -> None:
    by, other = key(keys), key(keys, "ecdsa", "-b256")
    line, part = LINES[name]
    line = line.format(by=by.public, other=other.public, blob=by.public.split()[1])
    found = ask(signed(by), allow(tmp_path / "signers", line))
    assert part in found.problem and found.signer == by.fingerprint


def test_one_line_of_several_is_enough(keys: Path, tmp_path: Path) -> None:
    by, other = key(keys), key(keys, "ecdsa", "-b256")
    signers = allow(
        tmp_path / "signers", f"* {other.public}", f"api {by.public}",
        f'"w?b" namespaces="git,shift*",valid-after="20200101",valid-before="20990101120000Z" {by.public} me',
    )  # fmt: skip
    assert ask(signed(by), signers) == Answer(by.fingerprint)


def loosened(signers: Path, how: str) -> Path:
    if how == "writable":
        signers.chmod(0o664)
    elif how == "another's":
        os.chown(signers, 12345, -1)
    elif how == "a link":
        (link := signers.with_name("link")).symlink_to(signers)
        return link
    elif how == "in a writable directory":
        signers.parent.chmod(0o777)
    elif how == "behind a link":
        (link := signers.parent.with_name("way")).symlink_to(signers.parent)
        return link / signers.name
    elif how == "a FIFO":
        signers.unlink()
        os.mkfifo(signers)
    elif how == "missing":
        signers.unlink()
    elif how == "huge":
        signers.write_text("#" * (2 << 20))
    return signers


HOWS = ["writable", "another's", "a link", "in a writable directory", "behind a link", "a FIFO", "missing", "huge"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("how", HOWS)
def test_a_file_that_others_could_have_written_is_not_used(how: str, keys: Path, tmp_path: Path) -> None:
    by = key(keys)
    (tmp_path / "etc").mkdir()
    signers = loosened(allow(tmp_path / "etc/signers", f"* {by.public}"), how)
    with pytest.raises(InvalidRequest, match="cannot use the allowed signers in"):
        load(signers)
    assert ask(signed(by), signers).problem


def ssh_keygen_takes(given: Signed, signers: Path) -> bool:
    signature = signers.with_name("s.sig")
    signature.write_text(given.signature)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "web", "-n", "shiftwork", "-s", str(signature)]
    return subprocess.run(command, input=given.statement, capture_output=True, text=True).returncode == 0


def test_patterns_are_openssh_s() -> None:
    assert matches(["web-*", "!web-1"], "web-2") and not matches(["web-*", "!web-1"], "web-1")
    assert matches(["w?b"], "web") and not matches(["w.b"], "web") and not matches(["[w]eb"], "web")
    assert not matches([], "web") and not matches(["!api"], "web")


def test_times_without_z_are_this_host_s() -> None:
    first = parse("* valid-after=20270115080000Z,valid-before=20270115 ssh-x AAAABXNzaC14", Path("/f"))[0]
    assert first.valid_after == NOW and first.valid_before is not None and abs(first.valid_before - NOW) < DAY


def test_a_security_key_counts_only_when_it_was_touched(tmp_path: Path) -> None:
    """No such hardware here: the signature is made by hand, and ssh-keygen itself is asked first."""
    secret = ed25519.Ed25519PrivateKey.generate()
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = sshsig.packed([kind, secret.public_key().public_bytes_raw(), b"ssh:"])
    statement = signed(key(tmp_path)).statement

    def touched(flags: int) -> Signed:
        unsigned = sshsig.Signature(blob, "shiftwork", "sha512", b"")
        rest = bytes([flags]) + (7).to_bytes(4, "big")
        data = hashlib.sha256(sshsig.signed_bytes(unsigned, statement.encode())).digest()
        value = sshsig.packed([kind, secret.sign(hashlib.sha256(b"ssh:").digest() + rest + data)]) + rest
        whole = b"SSHSIG" + (1).to_bytes(4, "big") + sshsig.packed([blob, b"shiftwork", b"", b"sha512", value])
        return Signed(statement, f"{sshsig.BEGIN}\n{base64.b64encode(whole).decode()}\n{sshsig.END}\n")

    signers = allow(tmp_path / "signers", f"web {kind.decode()} {base64.b64encode(blob).decode()}")
    assert ssh_keygen_takes(touched(1), signers)
    assert ask(touched(1), signers).problem == ""
    assert "nobody touched it" in ask(touched(0), signers).problem


def test_the_child_answers_on_its_own(keys: Path, tmp_path: Path) -> None:
    by = key(keys)
    given = signed(by)
    question = Question(given.statement, given.signature, "web", str(allow(tmp_path / "s", f"* {by.public}")), NOW + 1)
    command = [sys.executable, "-I", "-m", "shiftwork_agent.signing"]
    out = subprocess.run(command, input=msgspec.json.encode(question), capture_output=True, check=True).stdout
    assert msgspec.json.decode(out, type=Answer) == Answer(by.fingerprint)


def test_ssh_keygen_refuses_what_we_refuse(keys: Path, tmp_path: Path) -> None:
    """The same file serves both, so both must read it the same way."""
    by = key(keys)
    given = signed(by)
    for line, good in ((f'web namespaces="shiftwork" {by.public}', True), (f"api {by.public}", False),
                       (f'web namespaces="git" {by.public}', False), (f"*,!web {by.public}", False),
                       (f'web valid-before="20200101" {by.public}', False), (f"w*b {by.public}", True)):  # fmt: skip
        signers = allow(tmp_path / "signers", line)
        theirs = ssh_keygen_takes(given, signers)
        ours = ask(given, signers).problem == ""
        assert (theirs, ours) == (good, good), line


def test_armor_is_read_as_ssh_keygen_writes_it(keys: Path) -> None:
    by = key(keys)
    found = sshsig.parse(armor(by, "hello"))
    assert sshsig.fingerprint(found.key) == by.fingerprint and found.namespace == "shiftwork"
