"""Waits for /healthz, then asks for the front page of the expected version; says plainly what is wrong."""

import sys
import time
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

ask = build_opener(ProxyHandler({})).open


def answer(url: str) -> tuple[int, str, str]:
    try:
        with ask(url, timeout=5) as response:
            return response.status, response.headers.get("X-Version", ""), response.read().decode()
    except HTTPError as err:
        return err.code, err.headers.get("X-Version", ""), err.read().decode()
    except OSError as err:
        return 0, "", str(err)


def wait_until_warm(base: str, limit: float) -> None:
    end = time.monotonic() + limit
    while (last := answer(base + "/healthz"))[0] != 200:
        if time.monotonic() > end:
            sys.exit(f"ValidateService: /healthz is not ready after {limit:g} s: {last[0]} {last[2].strip()}")
        time.sleep(0.05)


def main(base: str, expected: str) -> None:
    wait_until_warm(base, 15.0)
    status, version, body = answer(base + "/")
    if status != 200:
        sys.exit(f"ValidateService: {expected} answers GET / with {status}: {body.strip()}")
    if version != expected:
        sys.exit(f"ValidateService: {version or 'nobody'} answers GET /, expected {expected}")
    print(f"{expected} answers GET /")


main(sys.argv[1], sys.argv[2])
