"""What a lab consists of, as `lab.json` in its directory remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from shiftwork_contract.errors import InvalidRequest

RuntimeKind = Literal["docker", "process"]
FILE = "lab.json"
TAGS = {"Environment": "production", "Role": "web"}
APP_PORT = 8080
GATE_PORT = 8081
GATE_PATH = "/gate/web/production"
MOST = 200
REGION = "us-east-1"


class Instance(msgspec.Struct, frozen=True):
    """`container` is set in the Docker runtime; in the process runtime everything is found by directory."""

    name: str
    address: str
    container: str = ""


class Lab(msgspec.Struct, frozen=True, rename="camel"):
    """`url`, `token` and `ca` are how the coordinator is reached from this machine; `ca` is a path.

    `name` is unique on this machine: containers, networks and volumes carry it, and so does the environment of every
    process. `ports` are the ones taken on 127.0.0.1, by what they are for. With `aws` it has a stand-in for AWS
    instead of instances and a balancer.
    """

    name: str
    runtime: RuntimeKind
    directory: Path
    ports: dict[str, int]
    instances: tuple[Instance, ...]
    subnet: str = ""
    image: str = ""
    token: str = ""
    containers: dict[str, str] = {}
    aws: bool = False

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports['coordinator']}"

    @property
    def balancer_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['balancer']}"

    @property
    def aws_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['aws']}"

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def instance(self, name: str) -> Instance:
        """Raises InvalidRequest when the lab has no such instance."""
        for instance in self.instances:
            if instance.name == name:
                return instance
        known = ", ".join(instance.name for instance in self.instances)
        raise InvalidRequest(f"cannot find instance {name!r} in lab {self.name}: it has {known}")

    def environment(self) -> dict[str, str]:
        """What the `shiftwork` command needs to talk to this lab's coordinator."""
        return {"SHIFTWORK_URL": self.url, "SHIFTWORK_TOKEN": self.token, "SHIFTWORK_CA": str(self.ca)}

    def aws_environment(self) -> dict[str, str]:
        """What every AWS SDK and the `aws` command need to talk to this lab's stand-in; empty where there is none."""
        return credentials(self.aws_url) if self.aws else {}


def credentials(aws_url: str) -> dict[str, str]:
    """The environment in which AWS's SDKs and its command talk to the stand-in at this address."""
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "LAB",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def save(lab: Lab) -> None:
    """Afterwards, and after a crash at any point, the file is whole. It holds a token: nobody else may read it."""
    new = lab.directory / (FILE + ".new")
    new.touch(mode=0o600)
    members = {**msgspec.to_builtins(lab, enc_hook=str), "url": lab.url, "balancerUrl": lab.balancer_url}
    if lab.aws:
        members["awsUrl"] = lab.aws_url
    new.write_bytes(msgspec.json.format(msgspec.json.encode({**members, "ca": str(lab.ca)})))
    new.rename(lab.directory / FILE)


def load(directory: Path) -> Lab:
    """Raises InvalidRequest when there is no lab in `directory`."""
    try:
        text = (directory / FILE).read_bytes()
        return msgspec.json.decode(text, type=Lab, dec_hook=lambda type_, value: type_(value))
    except FileNotFoundError as err:
        raise InvalidRequest(f"cannot find a lab in {directory}: start one with `shiftwork lab up`") from err
    except msgspec.MsgspecError as err:
        raise InvalidRequest(f"cannot read {directory / FILE}: {err}; `shiftwork lab up` makes a new one") from err


def checked_count(instances: int) -> int:
    if not 1 <= instances <= MOST:
        raise InvalidRequest(f"cannot start a lab of {instances} instances: 1 to {MOST} fit on one machine")
    return instances
