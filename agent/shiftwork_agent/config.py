"""Settings of the agent: agent.yml, written by `join`, edited by hand."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shiftwork_contract.errors import InvalidRequest


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`coordinators` are tried in turn. `install_root` is put before every destination of an AppSpec's `files` and
    given to hooks as SHIFTWORK_INSTALL_ROOT; empty means the host's own root. `address` is what the agent announces
    and where a gate with an empty host listens. `output_limit` bounds one event's output on disk, in bytes;
    `keep_commands` is how many ended commands keep theirs."""

    coordinators: tuple[str, ...]
    name: str = ""
    install_root: str = ""
    address: str = ""
    output_limit: int = 64 << 20
    keep_commands: int = 50
    log_format: str = "text"
    log_level: str = "info"


def load(path: Path) -> Config:
    """Raises InvalidRequest naming the file and the setting."""
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
    return checked(config, path)


def checked(config: Config, path: Path) -> Config:
    """`config` itself when its values can be used. Raises InvalidRequest naming the first that cannot."""
    problem = next((text for wrong, text in _problems(config) if wrong), "")
    if problem:
        raise InvalidRequest(f"cannot use {path}: {problem}")
    return config


def _problems(config: Config) -> list[tuple[bool, str]]:
    wrong_urls = [url for url in config.coordinators if not _is_url(url)]
    return [
        (not config.coordinators, "coordinators is empty; name at least one https://host:port"),
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
        (config.keep_commands < 1, f"keep_commands is {config.keep_commands}; the least is 1"),
        (config.log_format not in ("text", "json"), f"log_format is {config.log_format!r}; write text or json"),
        (
            config.log_level not in ("debug", "info", "warning", "error"),
            f"log_level is {config.log_level!r}; write debug, info, warning or error",
        ),
    ]


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("https", "http") and bool(parts.hostname)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def dump(config: Config) -> bytes:
    """`config` as YAML; settings at their default are left out."""
    import yaml

    default = Config(coordinators=())
    values = {
        field: list(value) if isinstance(value, tuple) else value
        for field in Config.__struct_fields__
        if (value := getattr(config, field)) != getattr(default, field)
    }
    return yaml.safe_dump(values, sort_keys=False).encode()
