"""Revisions: what can be referred to, and what a tree is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType, Revision, TreeEntry, bundle_type, parse_reference, tree_digest

HEX = "0123456789abcdef" * 4
ENTRIES = [
    TreeEntry(b"a", "dir", 0o755, b""),
    TreeEntry(b"a/f", "file", 0o644, HEX.encode()),
    TreeEntry(b"l", "link", 0o777, b"a/f"),
]


@given(st.permutations(ENTRIES))
def test_the_order_of_entries_does_not_matter(entries: list[TreeEntry]) -> None:
    assert tree_digest(entries) == tree_digest(ENTRIES)


@pytest.mark.parametrize(
    "other",
    [
        TreeEntry(b"a/g", "file", 0o644, HEX.encode()),
        TreeEntry(b"a/f", "link", 0o644, HEX.encode()),
        TreeEntry(b"a/f", "file", 0o755, HEX.encode()),
        TreeEntry(b"a/f", "file", 0o644, HEX[::-1].encode()),
    ],
)
def test_path_kind_mode_and_content_matter(other: TreeEntry) -> None:
    assert tree_digest([ENTRIES[0], other, ENTRIES[2]]) != tree_digest(ENTRIES)


def test_the_mode_of_a_link_does_not_matter() -> None:
    assert tree_digest([TreeEntry(b"l", "link", 0o644, b"x")]) == tree_digest([TreeEntry(b"l", "link", 0o777, b"x")])


def test_the_digest_stays_what_it_is() -> None:
    """Agents of other versions compute it too: a change here is a change of the protocol."""
    assert tree_digest(ENTRIES) == "sha256:17ee928fef13137fe6e686f0271fb8f237d93b5136fb7afa83e8c3d18ecc6ece"


def test_a_pushed_revision_is_its_digest() -> None:
    assert parse_reference(f"sha256:{HEX}") == f"sha256:{HEX}"


def test_what_lies_elsewhere_is_pinned_by_the_digest_of_its_archive() -> None:
    found = parse_reference(f"https://example.test/web.tar.gz?x=1#sha256={HEX}")
    assert found == Revision(
        f"sha256:{HEX}", "https://example.test/web.tar.gz?x=1", "archive", BundleType.TGZ, HEX
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sha256:12", "this has 2"),
        (f"SHA256:{HEX}", "lower-case"),
        ("https://example.test/web.tgz", "can change under the same name"),
        ("file:///srv/web.zip#sha256=12", "can change under the same name"),
        (f"https://example.test/web.rar#sha256={HEX}", "must end in"),
        (f"http://example.test/web.tgz#sha256={HEX}", "none of"),
        ("web-1.2", "shiftwork push"),
        ("", "shiftwork push"),
    ],
)
def test_what_may_change_or_is_unknown_is_refused(text: str, part: str) -> None:
    with pytest.raises(InvalidRequest) as err:
        parse_reference(text)
    assert part in err.value.message


def test_archive_types_by_name() -> None:
    names = {"a.tar": "tar", "a.TGZ": "tgz", "a.tar.gz": "tgz", "https://h/a.zip?b=c.tar": "zip"}
    assert {name: str(bundle_type(name)) for name in names} == names
