"""`make fuzz`: each target for its share of FUZZ_SECONDS (60), then how many of the known tricks are refused.

Whatever breaks a rule of targets.py is kept in build/fuzz/; put it into corpus/ once it is mended.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.contract.test_hostile_archives import tally
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

FOUND = Path("build/fuzz")
MEMORY_MB, SLOW = 1024, 10
"""What one execution may use, in MB and seconds."""


def run(name: str, seconds: int) -> bool:
    """Fuzzes one target and prints what came of it."""
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOW}", "-max_len=65536",
            f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", corpus,
        ]  # fmt: skip
        command = [sys.executable, "-m", "tests.fuzz.guided", name, *options]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 120)
    executed = _stat(ended.stderr, "number_of_executed_units")
    rate, peak = executed // max(1, seconds), _stat(ended.stderr, "peak_rss_mb")
    print(f"{name}: {executed} executions, {rate} per second, at most {peak} MB")
    if ended.returncode:
        print(f"{name}: found something, kept in {FOUND}/\n{ended.stderr[-3000:]}")
    return ended.returncode == 0


def _stat(text: str, name: str) -> int:
    match = re.search(rf"stat::{name}:\s+(\d+)", text)
    return int(match[1]) if match else 0


def main() -> int:
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    good = [run(name, max(1, seconds // len(TARGETS))) for name in TARGETS]
    refused, tried = tally()
    print(f"hostile archives: {refused} refused / {tried} tried")
    return 0 if all(good) and refused == tried else 1


if __name__ == "__main__":
    sys.exit(main())
