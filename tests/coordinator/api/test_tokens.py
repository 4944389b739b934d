"""Tokens: what they are made of, how long and how often they are good, and that every refusal looks the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, Denied, InvalidRequest
from shiftwork_coordinator import tokens
from shiftwork_coordinator.store import Store
from shiftwork_coordinator.tokens import NewToken, alive, create, operator, revoke, spend, to_join

CA = "ab" * 32


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    found = await Store.open(database)
    yield found
    await found.close()


async def made(store: Store, clock: Clock, kind: Any = "agent", **options: Any) -> tuple[Any, str]:
    return await create(store, clock, NewToken(kind, **options), "root", CA)


async def test_a_join_token_carries_the_fingerprint_of_the_ca(store: Store, clock: Clock) -> None:
    row, text = await made(store, clock)
    prefix, id, secret, ca = text.split("_")
    assert (prefix, id, len(secret), ca) == ("swj", row.id, 40, CA[:32])
    assert secret not in row.secret_hash
    assert (row.uses_left, row.expires_at) == (1, 1000.0 + 15 * 60)


async def test_an_operators_token_has_no_end_unless_asked(store: Store, clock: Clock) -> None:
    row, text = await made(store, clock, "operator", role="viewer")
    clock.time += 10 * 365 * 86400
    assert (await operator(store, clock, text)).id == row.id
    _, short = await made(store, clock, "operator", role="viewer", ttl=10.0)
    clock.time += 10
    with pytest.raises(Denied):
        await operator(store, clock, short)


async def test_a_token_is_good_until_its_end_and_not_at_it(store: Store, clock: Clock) -> None:
    row, _ = await made(store, clock, ttl=60.0)
    assert alive(row, 1059.9)
    assert not alive(row, 1060.0)


async def test_uses_are_counted_down_and_never_below_none(store: Store, clock: Clock) -> None:
    _, text = await made(store, clock, uses=2)
    for _ in range(2):
        await store.write(*spend(await to_join(store, clock, text, "web-1")))
    with pytest.raises(Denied):
        spend(await to_join(store, clock, text, "web-1"))


async def test_a_use_that_was_read_before_another_one_does_not_count_twice(store: Store, clock: Clock) -> None:
    _, text = await made(store, clock)
    first, second = [await to_join(store, clock, text, "web-1") for _ in range(2)]
    await store.write(*spend(first))
    with pytest.raises(Conflict):
        await store.write(*spend(second))


async def test_only_who_holds_the_token_is_told_its_name(store: Store, clock: Clock) -> None:
    _, joining = await made(store, clock, name="web-1")
    with pytest.raises(Denied, match="join with --name web-1"):
        await to_join(store, clock, joining, "web-2")


async def test_every_refusal_is_the_same(store: Store, clock: Clock) -> None:
    row, text = await made(store, clock, "operator", role="admin")
    _, joining = await made(store, clock, name="web-1")
    _, revoked = await made(store, clock, "operator", role="admin")
    await revoke(store, clock, revoked.split("_")[1], "root")
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    told = set()
    for given in ("", "x", text.upper(), wrong, f"swt_{'0' * 12}_{'0' * 40}", joining, revoked, text + "\n", "swt_é"):
        with pytest.raises(Denied) as refused:
            await operator(store, clock, given)
        told.add((refused.value.code, refused.value.message))
    guessed = joining.replace(joining.split("_")[2], "0" * 40)
    for name, given in (("web-2", guessed), ("web-1", text)):
        with pytest.raises(Denied) as refused:
            await to_join(store, clock, given, name)
        told.add((refused.value.code, refused.value.message))
    assert told == {("Denied", tokens.REFUSED)}
    assert (await operator(store, clock, text)).id == row.id


async def test_a_join_token_cannot_be_used_as_an_operators(store: Store, clock: Clock) -> None:
    """Not even when its text is rewritten: the row knows its kind."""
    _, text = await made(store, clock)
    with pytest.raises(Denied):
        await operator(store, clock, text.replace("swj_", "swt_").rsplit("_", 1)[0])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (NewToken("operator"), "role is one of viewer"),
        (NewToken("operator", role="root"), "role is one of viewer"),
        (NewToken("agent", role="admin"), "agents have none"),
        (NewToken("agent", name="web 1"), "bind a token"),
        (NewToken("agent", ttl=0.0), "more than 0"),
        (NewToken("agent", ttl=-1.0), "more than 0"),
        (NewToken("agent", uses=0), "1 or more"),
    ],
)
async def test_what_makes_no_sense_is_refused(store: Store, clock: Clock, asked: NewToken, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=expected):
        await create(store, clock, asked, "root", CA)
    assert await store.tokens() == []


async def test_revoking_is_remembered_with_its_first_time(store: Store, clock: Clock) -> None:
    row, _ = await made(store, clock)
    first = await revoke(store, clock, row.id, "root")
    clock.time += 50
    assert await revoke(store, clock, row.id, "root") == first == replace(row, revoked_at=1000.0)
    with pytest.raises(InvalidRequest, match="cannot find token"):
        await revoke(store, clock, "nope", "root")
    assert [line.action for line in await store.audit()] == ["token.create", "token.revoke", "token.revoke"]
