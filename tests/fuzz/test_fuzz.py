"""A few seconds of what `make fuzz` does for longer: every seed as it is, and changed in the same ways each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz import targets
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import CORPUS, TARGETS

from shiftwork_contract.errors import InvalidRequest

ROUNDS = {"appspec": 300, "unpacker": 150}


def mutants(name: str) -> Iterator[bytes]:
    dice, begin = random.Random(7), list(seeds(name))
    yield from begin
    for _ in range(ROUNDS[name]):
        data = bytearray(dice.choice(begin))
        for _ in range(dice.randint(1, 8)):
            mutate(data, dice, begin)
        yield bytes(data)


def mutate(data: bytearray, dice: random.Random, begin: list[bytes]) -> None:
    at = dice.randint(0, len(data))
    match dice.randint(0, 4):
        case 0:
            data[at : at + 1] = bytes([dice.randint(0, 255)])
        case 1:
            del data[at : at + dice.randint(1, 600)]
        case 2:
            data[at:at] = data[at : at + dice.randint(1, 600)]
        case 3:
            other = dice.choice(begin)
            data[at:at] = other[dice.randint(0, len(other)) :][:1024]
        case _:
            data[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"../.", b"\x80\0\0\0"))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_a_refusal_comes_out(name: str) -> None:
    for number, data in enumerate(mutants(name)):
        try:
            TARGETS[name](data)
        except Exception as err:
            raise AssertionError(f"{name}, input {number}: {data[:200]!r}…") from err


def test_there_is_a_corpus() -> None:
    assert all(any((CORPUS / name).iterdir()) for name in TARGETS)


@pytest.mark.parametrize(
    ("where", "told"), [("../escaped", "beside the directory"), ("../witness", "outside was changed")]
)
def test_a_breach_would_be_seen(where: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(archive: object, kind: object, into: Path, limits: object) -> None:
        (into / where).write_text("x")
        raise InvalidRequest("refused, but too late")

    monkeypatch.setattr(targets, "unpack", leaky)
    with pytest.raises(AssertionError, match=told):
        targets.unpacker(b"\0")
