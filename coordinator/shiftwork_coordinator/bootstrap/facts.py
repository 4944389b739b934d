"""What is known of a host, read from what the scripts of `orders` print there. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

DEBS = frozenset({"debian", "ubuntu"})
RPMS = frozenset({"rhel", "fedora", "centos", "suse", "opensuse", "sles", "amzn", "rocky", "almalinux", "ol"})


@dataclass(frozen=True)
class Look:
    """What anybody may see there. `sudo` is yes, password or missing; root needs none. Free space in bytes."""

    root: bool = False
    user: str = ""
    sudo: str = "missing"
    system: str = "Linux"
    machine: str = ""
    hostname: str = ""
    address: str = ""
    distribution: str = ""
    ids: frozenset[str] = frozenset()
    glibc: tuple[int, ...] = ()
    systemd: bool = False
    tools: frozenset[str] = frozenset()
    free_opt: int = 0
    free_tmp: int = 0

    @property
    def format(self) -> str:
        """deb, rpm or "": by the distribution, else by what is there to install with."""
        if self.ids & DEBS:
            return "deb"
        if self.ids & RPMS:
            return "rpm"
        return next((format for tool, format in (("dpkg", "deb"), ("rpm", "rpm")) if tool in self.tools), "")


@dataclass(frozen=True)
class Survey:
    """What only root may see: the agent, and who it belongs to. `ca` is the SHA-256 of its coordinator's CA."""

    version: str = ""
    instance: str = ""
    ca: str = ""
    url: str = ""
    active: bool = False
    enabled: bool = False


def told(output: str) -> dict[str, str]:
    """The lines `@key=value`; a login shell may print whatever else it likes."""
    return dict(re.findall(r"^@([a-z_]+)=(.*?)\r?$", output, re.M))


def look(said: Mapping[str, str]) -> Look:
    """Whatever is missing or odd counts as not there."""
    return Look(
        root=said.get("uid") == "0",
        user=said.get("user", ""),
        sudo=said.get("sudo", "missing"),
        system=said.get("system", ""),
        machine=said.get("machine", ""),
        hostname=said.get("hostname", ""),
        address=said.get("address", ""),
        distribution=said.get("distribution", ""),
        ids=frozenset(said.get("ids", "").split()),
        glibc=tuple(map(int, re.findall(r"[0-9]{1,6}", said.get("glibc", ""))[:2])),
        systemd=said.get("systemd") == "yes",
        tools=frozenset(said.get("tools", "").split()),
        free_opt=_kilobytes(said.get("free_opt", "")),
        free_tmp=_kilobytes(said.get("free_tmp", "")),
    )


def survey(said: Mapping[str, str]) -> Survey:
    """Whatever is missing or odd counts as not there."""
    state, _, version = said.get("version", "").partition(" ")
    return Survey(
        version=version.strip() if state == "installed" else "",
        instance=_instance(said.get("identity", "")),
        ca=_fingerprint(said.get("ca", "")),
        url=said.get("url", ""),
        active=said.get("active") == "active",
        enabled=said.get("enabled") == "enabled",
    )


def fingerprint(pem: str) -> str:
    """The SHA-256 of a certificate, in hex; "" when it is none."""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    except ValueError:
        return ""


def _fingerprint(text: str) -> str:
    try:
        return fingerprint(base64.b64decode(text, validate=True).decode("ascii"))
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _instance(text: str) -> str:
    try:
        about = msgspec.json.decode(text or "{}", type=dict[str, object])
    except msgspec.MsgspecError:
        return ""
    return str(about.get("instance") or "")


def _kilobytes(text: str) -> int:
    return int(text) * 1024 if re.fullmatch(r"[0-9]{1,15}", text) else 0
