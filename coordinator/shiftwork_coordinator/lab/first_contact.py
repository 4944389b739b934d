"""Run on the coordinator's own host: prints, as JSON, an operator's token and the CA, which a new lab needs first.

`python -m shiftwork_coordinator.lab.first_contact DATA` asks over the unix socket in DATA, where root and the
coordinator's own user need no token.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from pathlib import Path


class _Local(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def _ask(path: Path, method: str, route: str, body: dict[str, str] | None = None) -> bytes:
    connection = _Local(path)
    connection.request(method, route, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status >= 300:
        sys.exit(f"{method} {route}: {response.status} {text.decode(errors='replace')}")
    return text


def main(data: Path) -> None:
    path = data / "shiftwork.sock"
    token = json.loads(_ask(path, "POST", "/v1/tokens", {"kind": "operator", "role": "admin", "name": "lab"}))
    print(json.dumps({"token": token["token"], "ca": _ask(path, "GET", "/v1/ca.pem").decode()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
