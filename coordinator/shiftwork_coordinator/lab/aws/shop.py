"""Three functions of a SAM template, as a stack has left them: each at version 1 behind its alias, and a hook function.

The template lies beside their code, as it does for whoever calls `shiftwork sam`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shiftwork_coordinator.lab.aws import sample
from shiftwork_coordinator.lab.aws.sample import ALIAS
from shiftwork_coordinator.lab.plan import Lab

APPLICATION = "shop"
ORDERS, BILLS, MAILS = FUNCTIONS = ("orders", "bills", "mails")
HOOK = "CodeDeployHook_check-mails"
CANARY, LINEAR = "ShopCanary25Percent", "ShopLinear50Percent"
HANDLER = """
# version {version}
def main(event, context):
    return {{"version": context.function_version}}
"""
CHECK = """
def main(event, context):
    if int(event["TargetVersion"]) > 2:
        return {"status": "Failed", "message": "the test mail did not arrive"}
    return {"status": "Succeeded"}
"""


def make(lab: Lab) -> None:
    """In the stand-in."""
    role, functions = sample.role(lab), sample.client(lab, "lambda")
    for name in FUNCTIONS:
        sample.create(functions, name, role, HANDLER.format(version=1))
        functions.create_alias(FunctionName=name, Name=ALIAS, FunctionVersion="1")
    sample.hook(functions, role, HOOK, CHECK)


def write(lab: Lab, version: int) -> Path:
    """The template, with code beside it that becomes this version."""
    root = lab.directory / APPLICATION
    for name in FUNCTIONS:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "handler.py").write_text(HANDLER.format(version=version))
    path = root / "template.yaml"
    path.write_text(yaml.safe_dump(_template(), sort_keys=False))
    return path


def configs(lab: Lab, canary: float, linear: float) -> Path:
    """A `shiftwork.yml` with the configs that the template names, and how many seconds they wait between two steps."""
    wanted = {
        CANARY: {"platform": "Lambda", "canary": {"percentage": 25, "interval": canary}},
        LINEAR: {"platform": "Lambda", "linear": {"percentage": 50, "interval": linear}},
    }
    path = lab.directory / "shiftwork.yml"
    path.write_text(yaml.safe_dump({"application": APPLICATION, "configs": wanted}, sort_keys=False))
    return path


def _template() -> dict[str, Any]:
    code = {"Runtime": "python3.12", "Handler": "handler.main", "AutoPublishAlias": ALIAS}
    resources = {
        "Orders": _function(ORDERS, {"Type": LINEAR}),
        "Bills": _function(BILLS, {"Type": "AllAtOnce"}),
        "Mails": _function(MAILS, {"Type": CANARY, "Hooks": {"PostTraffic": {"Ref": "CheckMails"}}}),
        "CheckMails": _function(HOOK, {"Enabled": False}),
    }
    return {"Transform": "AWS::Serverless-2016-10-31", "Globals": {"Function": code}, "Resources": resources}


def _function(name: str, preference: dict[str, Any]) -> dict[str, Any]:
    properties = {"FunctionName": name, "CodeUri": f"{name}/", "DeploymentPreference": preference}
    return {"Type": "AWS::Serverless::Function", "Properties": properties}
