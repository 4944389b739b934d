"""Where the fuzzer begins: the files in corpus/, and every archive of the tables of tricks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.contract.test_archive import SEEDS
from tests.contract.test_hostile_archives import CASES
from tests.fuzz.targets import CORPUS, KINDS

MOST = 64 << 10
"""Bytes of a seed: larger ones only slow it down."""


def seeds(name: str) -> Iterator[bytes]:
    for path in sorted((CORPUS / name).iterdir()):
        yield path.read_bytes()
    if name == "unpacker":
        yield from archives()


def archives() -> Iterator[bytes]:
    for kind, data in SEEDS.items():
        yield bytes([KINDS.index(kind)]) + data
    for case in CASES.values():
        data = case.make().read()
        if len(data) <= MOST:
            yield bytes([KINDS.index(case.kind)]) + data
