"""Where a revision lies that neither the coordinator nor the host keeps: an object in S3, a commit on GitHub."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.revision import BundleType, Revision, bundle_type

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_GITHUB = re.compile(r"github:(?P<owner>[A-Za-z0-9][A-Za-z0-9-]*)/(?P<repository>[A-Za-z0-9._-]+)@(?P<commit>[^?#]*)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")


class S3Object(msgspec.Struct, frozen=True):
    """`version` is empty where the bucket keeps no versions, or before the object was looked up."""

    bucket: str
    key: str
    version: str = ""

    @property
    def url(self) -> str:
        version = f"?versionId={quote(self.version, safe='')}" if self.version else ""
        return f"s3://{self.bucket}/{quote(self.key)}{version}"


class Commit(msgspec.Struct, frozen=True):
    """A commit on GitHub, named in full."""

    owner: str
    repository: str
    commit: str

    @property
    def url(self) -> str:
        return f"github:{self.owner}/{self.repository}@{self.commit}"


class Reference(msgspec.Struct, frozen=True):
    """What a user wrote of such a place. `digest` is 64 hex digits, empty where it is still to be found."""

    place: S3Object | Commit
    bundle_type: BundleType = BundleType.TGZ
    digest: str = ""


def place_of(revision: Revision) -> S3Object | Commit | None:
    """None for what lies elsewhere."""
    if revision.url.startswith("s3:"):
        return _s3(revision.url)[0]
    return _github(revision.url) if revision.url.startswith("github:") else None


def bundle_variables(revision: Revision) -> dict[str, str]:
    """What CodeDeploy tells scripts of where their bundle came from; nothing for other places."""
    place = place_of(revision)
    if isinstance(place, Commit):
        return {"BUNDLE_COMMIT": place.commit}
    if place is None:
        return {}
    named = {"BUCKET": place.bucket, "KEY": place.key, "VERSION": place.version, "ETAG": revision.etag}
    return {f"BUNDLE_{name}": value for name, value in named.items() if value}


def parse_place(text: str) -> Reference:
    """`s3://bucket/key[?versionId=…][&bundleType=…][#sha256=…]` or `github:owner/repo@commit[#sha256=…]`.

    Raises InvalidRequest for what is neither, and for a branch or a short name: it may mean something else tomorrow.
    """
    url, _, fragment = text.partition("#")
    digest = _digest(text, fragment)
    if url.startswith("github:"):
        return Reference(_github(url), BundleType.TGZ, digest)
    place, kind = _s3(url)
    return Reference(place, kind or bundle_type(place.key), digest)


def _digest(text: str, fragment: str) -> str:
    match = _DIGEST.fullmatch(fragment)
    if fragment and not match:
        raise _unusable(text, "what follows # is not sha256= and 64 lower-case hex digits")
    return match[1] if match else ""


def _s3(url: str) -> tuple[S3Object, BundleType | None]:
    try:
        parts = urlsplit(url)
    except ValueError as err:
        raise _unusable(url, f"it is no address: {err}") from err
    key = unquote(parts.path.removeprefix("/"))
    if not _BUCKET.fullmatch(parts.netloc) or not key:
        raise _unusable(url, "write s3://bucket/key, with lower-case letters, digits, dots and hyphens in the bucket")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(query.keys() - {"versionId", "bundleType"}):
        raise _unusable(url, f"it has {unknown[0]!r} after the ?; there are versionId and bundleType")
    place = S3Object(parts.netloc, key, query.get("versionId", ""))
    return place, _kind(url, query["bundleType"]) if "bundleType" in query else None


def _kind(url: str, name: str) -> BundleType:
    kinds = {str(kind): kind for kind in (BundleType.TAR, BundleType.TGZ, BundleType.ZIP)}
    if name not in kinds:
        raise _unusable(url, f"its bundleType is {name!r}, it must be one of {', '.join(kinds)}")
    return kinds[name]


def _github(url: str) -> Commit:
    match = _GITHUB.fullmatch(url)
    if not match or match["repository"] in (".", ".."):
        raise _unusable(url, "write github:owner/repo@commit")
    if not _COMMIT.fullmatch(match["commit"]):
        raise _unusable(
            url,
            f"{match['commit']!r} can come to mean another commit; write all 40 hex digits, as `git rev-parse` prints",
        )
    return Commit(match["owner"], match["repository"], match["commit"])


def _unusable(text: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"cannot use revision {text!r}: {problem}", code="InvalidRevision")


def shown(url: str) -> str:
    """`url` as it may be logged and shown: of a web address without what follows the ?, which may be a secret."""
    if url == "coordinator:":
        return "the coordinator"
    return url.partition("?")[0] if url.startswith(("https:", "http:")) else url
