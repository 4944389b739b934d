"""The lab with AWS: a coordinator, moto and the stand-in before it, as processes; instances are what groups launch."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.lab import image, process
from shiftwork_coordinator.lab.aws import moto, standin
from shiftwork_coordinator.lab.docker import Docker
from shiftwork_coordinator.lab.plan import Lab
from shiftwork_coordinator.lab.ports import free_ports
from shiftwork_coordinator.lab.process import Processes
from shiftwork_coordinator.lab.runtime import COORDINATOR, Say, Verb

AWS, MOTO = "aws", "moto"
SUFFERED: Mapping[str, tuple[Verb, ...]] = {COORDINATOR: ("kill", "pause", "resume"), AWS: ("pause", "resume")}
"""What is killed of AWS would have forgotten the functions' code."""


class AwsProcesses(Processes):
    """Like processes, without instances of its own and without a balancer. `contained`: tasks of services and instances
    of groups are containers of the lab's image."""

    def __init__(self, *, contained: bool = False) -> None:
        self._contained = contained

    def unusable(self) -> str:
        if moto.missing():
            return "moto is missing: pip install 'shiftwork[lab]'"
        return Docker().unusable() if self._contained else ""

    def prepare(self, say: Say) -> str:
        return image.ensure(say) if self._contained else ""

    def layout(self, lab: Lab, count: int) -> Lab:
        process.check_socket(lab)
        ports = dict(zip((AWS, MOTO), free_ports(2), strict=True))
        return msgspec.structs.replace(lab, ports=lab.ports | ports)

    def start_coordinator(self, lab: Lab) -> None:
        own = process.home(lab, AWS) / "functions"
        own.mkdir(parents=True)
        moto_port, port = lab.ports[MOTO], lab.ports[AWS]
        process.keep_running(lab, MOTO, moto.command(moto_port))
        places = [f"http://127.0.0.1:{moto_port}", str(own), str(lab.directory), lab.image, lab.name]
        process.keep_running(lab, AWS, [sys.executable, "-m", standin.__name__, str(port), *places])
        process.serve(lab, lab.aws_environment())

    def start_balancer(self, lab: Lab) -> None:
        """There is none."""

    def answers(self, lab: Lab) -> bool:
        """Whether AWS's stand-in does, and moto behind it."""
        try:
            for url in (f"{lab.aws_url}/_lab/", f"http://127.0.0.1:{lab.ports[MOTO]}/moto-api/data.json"):
                urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            return False
        return True

    def statuses(self, lab: Lab) -> Mapping[str, str]:
        return {name: process.status(lab, name) for name in (COORDINATOR, AWS, MOTO)}

    def keep_logs(self, lab: Lab) -> None:
        if lab.image:
            Docker().keep_logs(lab)

    def down(self, lab: Lab) -> None:
        super().down(lab)
        if lab.image:
            Docker().down(lab)

    def fault(self, lab: Lab, verb: Verb, target: str) -> None:
        if verb not in SUFFERED.get(target, ()):
            raise InvalidRequest(
                f"cannot {verb} {target}: of this lab the coordinator can be killed, and both it and aws paused"
                f" and resumed; what single calls suffer is said at {lab.aws_url}/_lab/faults"
            )
        process.signal_one(lab, target, process.SIGNALS[verb])
