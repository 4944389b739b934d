"""Whether a signature holds. Run as a short-lived child of the daemon, which so never imports `cryptography`.

    python -I -m shiftwork_agent.signing <question >answer

Only signatures by keys themselves are taken: a line with `cert-authority` lets nobody in.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from shiftwork_agent.signers import Answer, Question, Signer, load, matches
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_contract.sshsig import Fields, fingerprint, packed, parse, signed_bytes
from shiftwork_contract.statement import NAMESPACE

Verify = Callable[[Fields, Fields, str, bytes], None]
"""Of the fields after its type of a key and of a signature, with the algorithm and what is signed."""
RSA_BITS = range(2048, 16385)
_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_PRESENT = 1
"""The flag of a security key that somebody touched it."""


def answer(question: Question) -> Answer:
    signer = ""
    try:
        signature = parse(question.signature)
        signer = fingerprint(signature.key)
        if signature.namespace != NAMESPACE:
            return Answer(signer, f"it was made for the namespace {signature.namespace[:40]!r}, not {NAMESPACE!r}")
        if problem := _not_allowed(load(Path(question.signers)), signature.key, question):
            return Answer(signer, problem)
        _verify(signature.key, signature.value, signed_bytes(signature, question.statement.encode()))
    except InvalidSignature:
        return Answer(signer, "the key has not signed this statement: one of them was changed")
    except (ValueError, UnsupportedAlgorithm) as err:
        return Answer(signer, f"its key cannot be used: {err}")
    except ShiftworkError as err:
        return Answer(signer, err.message)
    return Answer(signer)


def _not_allowed(signers: list[Signer], key: bytes, question: Question) -> str:
    """Why no line lets this key sign for the application now; empty when one does."""
    lines = [one for one in signers if one.key == key and not one.authority]
    if not lines:
        return f"the key is not in {question.signers}; if it is to be trusted, add it there, as root"
    problems = [_shut_out(one, question) for one in lines]
    return "" if "" in problems else f"line {lines[0].line} of {question.signers} {problems[0]}"


def _shut_out(one: Signer, question: Question) -> str:
    if not matches(one.principals, question.application):
        return f"allows the key for {','.join(one.principals)[:80]}, not for {question.application}"
    if not matches(one.namespaces, NAMESPACE):
        return f"allows the key in the namespaces {','.join(one.namespaces)[:80]}, not in {NAMESPACE}"
    if one.valid_after is not None and question.now < one.valid_after:
        return "allows the key later only (valid-after)"
    if one.valid_before is not None and question.now >= one.valid_before:
        return "allowed the key earlier only (valid-before); sign again with a key that is valid now"
    return ""


def _verify(key: bytes, value: bytes, data: bytes) -> None:
    """Raises InvalidSignature, or InvalidRequest and ValueError for keys and signatures that are no such thing."""
    public, signature = Fields(key), Fields(value)
    kind, algorithm = public.text(), signature.text()
    verify = _KINDS.get(kind)
    if verify is None:
        raise InvalidRequest(f"its key is of the type {kind[:40]!r}; ed25519, ecdsa, rsa and security keys are known")
    if algorithm != kind and not (kind == "ssh-rsa" and algorithm in _RSA_HASHES):
        raise InvalidRequest(f"its algorithm {algorithm[:40]!r} is not to be used with a key of the type {kind}")
    verify(public, signature, algorithm, data)
    public.end()
    signature.end()


def _ed25519(public: Fields, signature: Fields, algorithm: str, data: bytes) -> None:
    ed25519.Ed25519PublicKey.from_public_bytes(public.field()).verify(signature.field(), data)


def _ecdsa(public: Fields, signature: Fields, algorithm: str, data: bytes) -> None:
    name = public.text()
    if name not in _CURVES or f"-{name}" not in algorithm:
        raise InvalidRequest(f"its key is on the curve {name[:40]!r}, which does not fit its type")
    curve, digest = _CURVES[name]
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, public.field())
    pair = Fields(signature.field())
    encoded = encode_dss_signature(pair.integer(), pair.integer())
    pair.end()
    key.verify(encoded, data, ec.ECDSA(digest))


def _rsa(public: Fields, signature: Fields, algorithm: str, data: bytes) -> None:
    exponent, modulus = public.integer(), public.integer()
    if modulus.bit_length() not in RSA_BITS:
        raise InvalidRequest(f"its RSA key has {modulus.bit_length()} bits; 2048 to 16384 are taken")
    if algorithm not in _RSA_HASHES:
        raise InvalidRequest("it is an RSA signature with SHA-1; `ssh-keygen -Y sign` makes better ones")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    key.verify(signature.field().rjust(key.key_size // 8, b"\0"), data, padding.PKCS1v15(), _RSA_HASHES[algorithm])


def _security_key(inner: Verify) -> Verify:
    """A FIDO key signs the hashes of its application and of the data, with its flags and counter between them."""

    def verify(public: Fields, signature: Fields, algorithm: str, data: bytes) -> None:
        key = [public.field() for _ in range(2 if "ecdsa" in algorithm else 1)]
        application, value = public.field(), signature.field()
        flags, counter = signature.take(1), signature.take(4)
        if not flags[0] & _PRESENT:
            raise InvalidRequest("its security key says that nobody touched it")
        blob = hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(data).digest()
        inner(Fields(packed(key)), Fields(packed([value])), algorithm, blob)

    return verify


_KINDS: dict[str, Verify] = {
    "ssh-ed25519": _ed25519,
    "ssh-rsa": _rsa,
    **{f"ecdsa-sha2-{curve}": _ecdsa for curve in _CURVES},
    "sk-ssh-ed25519@openssh.com": _security_key(_ed25519),
    "sk-ecdsa-sha2-nistp256@openssh.com": _security_key(_ecdsa),
}


def main() -> None:
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question)))


if __name__ == "__main__":
    main()
