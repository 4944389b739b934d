"""Settings of the agent: agent.yml, written by `join`, edited by hand."""

from __future__ import annotations

import ipaddress
import posixpath
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shiftwork_agent import sources
from shiftwork_agent.layout import DEFAULT_SIGNERS
from shiftwork_agent.sources import GitHubSettings, S3Settings
from shiftwork_contract.errors import InvalidRequest

ROLLBACK_MOST = 100
"""Statements of an application that are remembered (accepted.KEPT)."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`coordinators` are tried in turn. `install_root` is put before every destination of an AppSpec's `files` and
    given to hooks as SHIFTWORK_INSTALL_ROOT; empty means the host's own root. `address` is what the agent announces and
    where a gate with an empty host listens. `output_limit` bounds one event's output on disk, in bytes; `keep_commands`
    is how many ended commands keep theirs, `output_keep_bytes` how much they keep in all; `keep_revisions` and
    `keep_bytes` bound the unpacked revisions. `proxy` is an address, `no_proxy` names hosts that are reached without
    it. The last four are the host owner's word on what may run here and where it may go, which no message of a
    coordinator changes; see trust.py and install/roots.py."""

    coordinators: tuple[str, ...] = ()
    name: str = ""
    install_root: str = ""
    address: str = ""
    output_limit: int = 64 << 20
    keep_commands: int = 50
    output_keep_bytes: int = 1 << 30
    keep_revisions: int = 5
    keep_bytes: int = 20 << 30
    log_format: str = "text"
    log_level: str = "info"
    s3: S3Settings = S3Settings()
    github: GitHubSettings = GitHubSettings()
    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    require_signed: bool = False
    allowed_signers: str = DEFAULT_SIGNERS
    rollback_window: int = 10
    allowed_destinations: tuple[str, ...] = ()


def load(path: Path, *, joined: bool = True) -> Config:
    """Raises InvalidRequest naming the file and the setting. Only who has joined (`joined`) needs coordinators."""
    import yaml

    try:
        raw = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = msgspec.convert(raw, Config)
    except FileNotFoundError as err:
        raise InvalidRequest(f"cannot read {path}: there is no such file; run `shiftwork-agent join` first") from err
    except OSError as err:
        raise InvalidRequest(f"cannot read {path}: {err.strerror}") from err
    except (yaml.YAMLError, msgspec.ValidationError) as err:
        known = ", ".join(Config.__struct_fields__)
        raise InvalidRequest(f"cannot use {path}: {err}; settings are {known}") from err
    return checked(config, path, joined=joined)


def load_if_there(path: Path) -> Config:
    """As `load` for one who need not have joined; the defaults where there is no such file."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except OSError:
        pass  # `load` says what is wrong
    return load(path, joined=False)


def checked(config: Config, path: Path, *, joined: bool = True) -> Config:
    """`config` itself when its values can be used. Raises InvalidRequest naming the first that cannot."""
    problem = next((text for wrong, text in _problems(config, joined) if wrong), "")
    if problem:
        raise InvalidRequest(f"cannot use {path}: {problem}")
    return config


def _problems(config: Config, joined: bool) -> list[tuple[bool, str]]:
    wrong_urls = [url for url in config.coordinators if not _is_url(url)]
    return [
        (joined and not config.coordinators, "coordinators is empty; name at least one https://host:port"),
        (bool(wrong_urls), f"coordinators has {wrong_urls[:1]}; write https://host:port"),
        (
            bool(config.install_root) and not config.install_root.startswith("/"),
            f"install_root is {config.install_root!r}; write an absolute path",
        ),
        (
            bool(config.address) and not _is_address(config.address),
            f"address is {config.address!r}; write an IP address",
        ),
        (config.output_limit < 4096, f"output_limit is {config.output_limit} bytes; the least is 4096"),
        (config.output_keep_bytes < 0, f"output_keep_bytes is {config.output_keep_bytes}; the least is 0"),
        (config.keep_commands < 1, f"keep_commands is {config.keep_commands}; the least is 1"),
        (config.keep_revisions < 1, f"keep_revisions is {config.keep_revisions}; the least is 1"),
        (config.keep_bytes < 0, f"keep_bytes is {config.keep_bytes} bytes; the least is 0"),
        (config.log_format not in ("text", "json"), f"log_format is {config.log_format!r}; write text or json"),
        (
            config.log_level not in ("debug", "info", "warning", "error"),
            f"log_level is {config.log_level!r}; write debug, info, warning or error",
        ),
        (
            not config.allowed_signers.startswith("/"),
            f"allowed_signers is {config.allowed_signers!r}; write an absolute path",
        ),
        (
            not 1 <= config.rollback_window <= ROLLBACK_MOST,
            f"rollback_window is {config.rollback_window} statements; write 1 to {ROLLBACK_MOST}",
        ),
        (
            any(not _is_plain(root) for root in config.allowed_destinations),
            f"allowed_destinations is {list(config.allowed_destinations)}; write absolute paths without `..`",
        ),
        *sources.problems(config.s3, config.github, config.proxy),
    ]


def _is_plain(path: str) -> bool:
    return path.startswith("/") and posixpath.normpath(path) == (path.rstrip("/") or "/")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def dump(config: Config) -> bytes:
    """`config` as YAML; settings at their default are left out."""
    import yaml

    default = Config()
    values = {
        field: msgspec.to_builtins(value)
        for field in Config.__struct_fields__
        if (value := getattr(config, field)) != getattr(default, field)
    }
    return yaml.safe_dump(values, sort_keys=False).encode()
