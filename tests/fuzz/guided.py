"""One target under atheris, in a process of its own: python -m tests.fuzz.guided TARGET [libFuzzer's options]"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["shiftwork_contract", "shiftwork_agent.bundle", "tarfile", "zipfile"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
