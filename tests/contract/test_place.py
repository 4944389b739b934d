"""Places outside: what names them, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.place import Commit, Reference, S3Object, bundle_variables, parse_place, place_of, shown
from shiftwork_contract.revision import BundleType, Revision

COMMIT, HEX = "0123456789" * 4, "0123456789abcdef" * 4


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t"), min_size=1), st.text("aB9._-", max_size=8))
def test_any_key_is_found_again_in_its_address(key: str, version: str) -> None:
    place = S3Object("bucket", key, version)
    assert place_of(Revision("", place.url)) == place


def test_references() -> None:
    assert parse_place("s3://b.u-cket/a/b.zip?versionId=x%2Fy") == Reference(
        S3Object("b.u-cket", "a/b.zip", "x/y"), BundleType.ZIP
    )
    assert parse_place(f"s3://bucket/b?bundleType=tar#sha256={HEX}") == Reference(
        S3Object("bucket", "b"), BundleType.TAR, HEX
    )
    assert parse_place(f"github:o-1/r.x@{COMMIT}") == Reference(Commit("o-1", "r.x", COMMIT))
    assert place_of(Revision("", f"github:o/r@{COMMIT}")) == Commit("o", "r", COMMIT)
    assert place_of(Revision("", "https://h/x")) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("s3://Bucket/b.tgz", "lower-case"),
        ("s3://bucket/", "s3://bucket/key"),
        ("s3:bucket/b.tgz", "s3://bucket/key"),
        ("s3://bucket/b", "must end in"),
        ("s3://bucket/b?bundleType=directory", "one of tar, tgz, zip"),
        ("s3://bucket/b.tgz?version=1", "versionId"),
        ("s3://bucket/b.tgz#sha256=12", "64 lower-case"),
        ("github:o/r@main", "git rev-parse"),
        ("github:o/r@0123456", "40 hex digits"),
        ("github:o/r", "github:owner/repo@commit"),
        (f"github:o/..@{COMMIT}", "github:owner/repo@commit"),
        (f"github:o/r/x@{COMMIT}", "github:owner/repo@commit"),
        (f"github:o/r@{COMMIT}?bundleType=zip", "github:owner/repo@commit"),
    ],
)
def test_what_may_change_or_is_unknown_is_refused(text: str, part: str) -> None:
    with pytest.raises(InvalidRequest) as err:
        parse_place(text)
    assert part in err.value.message


def test_what_is_secret_in_an_address_is_not_shown() -> None:
    assert shown("https://h/b.tgz?X-Amz-Signature=s") == "https://h/b.tgz"
    assert shown("s3://b/k?versionId=v") == "s3://b/k?versionId=v"


def test_scripts_are_told_where_their_bundle_came_from() -> None:
    assert bundle_variables(Revision("", "s3://bucket/a%20b.zip?versionId=v", etag="e")) == {
        "BUNDLE_BUCKET": "bucket", "BUNDLE_KEY": "a b.zip", "BUNDLE_VERSION": "v", "BUNDLE_ETAG": "e",
    }  # fmt: skip
    assert bundle_variables(Revision("", "s3://bucket/b.zip")) == {"BUNDLE_BUCKET": "bucket", "BUNDLE_KEY": "b.zip"}
    assert bundle_variables(Revision("", f"github:o/r@{COMMIT}")) == {"BUNDLE_COMMIT": COMMIT}
    assert bundle_variables(Revision("", "coordinator:")) == {}
