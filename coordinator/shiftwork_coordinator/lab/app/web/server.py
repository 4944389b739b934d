"""The application that the lab deploys: a small HTTP server which takes a moment to get warm and stops gracefully.

GET / says version and host; POST / echoes; GET /slow?seconds=N takes its time; GET /healthz is for health checks.
Everything is answered with 503 until it is warm.
Every answer carries X-Version and X-Host. A file DEFECT beside this one breaks the front page: its text is what the
error says. On SIGTERM the server stops listening, finishes what is in flight and ends.
"""

import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

WARM_AFTER = 0.3
FINISH_WITHIN = 20.0
STARTED = time.monotonic()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], about: Path, host: str) -> None:
        super().__init__(address, Handler)
        self.version, self.host = (about / "VERSION").read_text().strip(), host
        self.defect = defect.read_bytes() if (defect := about / "DEFECT").exists() else b""
        self.in_flight, self.changed = 0, threading.Condition()

    def count(self, step: int) -> None:
        with self.changed:
            self.in_flight += step
            self.changed.notify_all()

    def finish(self) -> bool:
        """True once nothing is in flight; False when that took too long."""
        with self.changed:
            return self.changed.wait_for(lambda: self.in_flight == 0, FINISH_WITHIN)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120
    server: Server

    def do_GET(self) -> None:
        self.counted(self.page if self.warm() else self.cold)

    def do_POST(self) -> None:
        self.counted(self.echo if self.warm() else self.cold)

    def counted(self, handle) -> None:  # type: ignore[no-untyped-def]
        self.server.count(+1)
        try:
            handle()
            self.wfile.flush()
        finally:
            self.server.count(-1)

    def warm(self) -> bool:
        return time.monotonic() - STARTED >= WARM_AFTER

    def cold(self) -> None:
        self.close_connection = True  # a request body may be unread
        self.answer(503, b"not warm yet\n")

    def page(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(200, b"ready\n")
        elif url.path == "/slow":
            time.sleep(min(30.0, float(parse_qs(url.query).get("seconds", ["1"])[0])))
            self.answer(200, self.about())
        elif url.path != "/":
            self.answer(404, b"nothing here\n")
        elif self.server.defect:
            self.answer(500, self.server.defect)
        else:
            self.answer(200, self.about())

    def echo(self) -> None:
        self.answer(200, self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def about(self) -> bytes:
        return json.dumps({"version": self.server.version, "host": self.server.host}).encode() + b"\n"

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", self.server.version)
        self.send_header("X-Host", self.server.host)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: at hundreds of requests a second the log would be all that this server does."""


def main(address: str, port: str, host: str) -> None:
    server = Server((address, int(port)), Path(__file__).parent, host)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"{server.version} listens on {address}:{port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    sys.exit(0 if server.finish() else 1)


if __name__ == "__main__":
    main(*sys.argv[1:4])
