"""The process behind search.py, run by path with nothing but the standard library: pieces of whole lines in, the
lines in which the pattern is found out, each piece behind its length in eight bytes."""

from __future__ import annotations

import io
import os
import re
import resource
import sys

CPU_SECONDS = 10


def main() -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pattern = re.compile(sys.argv[1].encode())
    while head := sys.stdin.buffer.read(8):
        lines = io.BytesIO(sys.stdin.buffer.read(int.from_bytes(head)))  # splits at \n alone
        found = b"".join(line for line in lines if pattern.search(line.rstrip(b"\n")))
        sys.stdout.buffer.write(len(found).to_bytes(8) + found)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
