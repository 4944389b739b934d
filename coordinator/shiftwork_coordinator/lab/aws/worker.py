"""Runs one version of a function: an event a line on standard input, what becomes of it a line on standard output.

A script of its own, with nothing imported that the function has not imported itself.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any


class Context:
    function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
    aws_request_id = ""
    invoked_function_arn = ""


def _load() -> Any:
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), name)


def _outcome(event: object) -> dict[str, Any]:
    try:
        return {"payload": _load()(event, Context())}
    except (Exception, SystemExit) as err:  # noqa: BLE001  whatever a function raises is what became of it
        where = traceback.format_tb(err.__traceback__)
        return {"error": {"errorMessage": str(err), "errorType": type(err).__name__, "stackTrace": where}}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the function prints is its log
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    answers.write("\n")  # ready: what comes from here on is the function's own time
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_outcome(json.loads(line)), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
