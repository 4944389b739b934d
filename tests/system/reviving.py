"""A coordinator that is there again a moment after it was killed, for tests that kill it many times:
`python -m tests.system.reviving PID_FILE DATA LISTEN`.

A process that has imported everything and made the clients forks the one that serves, again whenever that has ended.
What is killed leaves to its successor what a crash leaves: the data directory.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from shiftwork_coordinator.aws import clients
from shiftwork_coordinator.balancers.elbv2 import Settings
from shiftwork_coordinator.lab.plan import REGION
from shiftwork_coordinator.main import serve


def main(pid_file: Path, data: Path, listen: str) -> None:
    for service, region in (("autoscaling", ""), ("ec2", ""), ("elbv2", REGION)):  # the last is an ARN's
        for attempts in (1, clients.ATTEMPTS):
            clients.client(service, Settings(region=region), attempts=attempts)
    gc.collect()
    gc.freeze()  # else each child's collector writes to all of it, which then has to be copied
    while True:
        pid = os.fork()
        if pid == 0:
            os._exit(serve(data, listen))
        new = pid_file.with_suffix(".new")
        new.write_text(str(pid))
        new.rename(pid_file)
        _, status = os.waitpid(pid, 0)
        print(f"the coordinator ended with status {status}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
