"""The demo application's revisions, made on the fly from one template that travels with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

TEMPLATE = Path(__file__).with_name("app")
DEFECT = "cannot read the price list: unknown column 'prise'\n"


def make(directory: Path, version: str, *, defect: str = "", start_delay: float = 0.0) -> Path:
    """A bundle of `version` in a new folder of `directory`, ready to push.

    With `defect` its front page answers 500 with that text, and its ValidateService fails; `start_delay` seconds pass
    in ApplicationStart before the application starts.
    """
    bundle = directory / version
    shutil.copytree(TEMPLATE, bundle, ignore=shutil.ignore_patterns("__pycache__"))
    for script in bundle.glob("hooks/*.sh"):
        script.chmod(0o755)  # a wheel may have lost it
    said = {"VERSION": version, "DEFECT": defect, "START_DELAY": f"{start_delay:g}" if start_delay else ""}
    for name, text in said.items():
        if text:
            (bundle / "web" / name).write_text(text)
    return bundle


def make_all(directory: Path) -> dict[str, Path]:
    """v1 and v2 that work, and v3 that does not."""
    return {v: make(directory, v, defect=DEFECT if v == "v3" else "") for v in ("v1", "v2", "v3")}
