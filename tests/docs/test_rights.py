"""The table of rights names every operation of AWS that the source names, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import botocore.session
from botocore import xform_name

from shiftwork_coordinator.aws.rights import FEATURES

SOURCE = Path(__file__).parents[2] / "coordinator" / "shiftwork_coordinator"
NOT_THE_COORDINATOR = ("lab", "demo", "cli", "aws", "engine", "model")
"""What plays AWS, what asks with the credentials of a person's shell, what drivers share, and what asks nobody."""
OWNERS: dict[str, tuple[str, ...]] = {
    "alarms/": ("alarms",),
    "balancers/elb.py": ("elb",),
    "balancers/elbv2": ("elbv2",),
    "fleets/": ("ec2", "ec2.terminate", "autoscaling", "autoscaling.hooks", "autoscaling.queue"),
    "functions.py": ("lambda", "code"),
    "notify/": ("triggers",),
    "shifters/autoscaling": ("autoscaling", "autoscaling.suspend"),
    "shifters/blue_green": ("blue_green", "blue_green.copy"),
    "shifters/ecs": ("ecs",),
    "shifters/failures.py": ("ecs",),
    "shifters/forwards.py": ("ecs", "blue_green.shift"),
    "shifters/hook_functions.py": ("hooks",),
    "shifters/lambda_.py": ("lambda",),
    "shifters/resting.py": ("autoscaling.suspend", "blue_green"),
    "shifters/scaling.py": ("ecs",),
    "shifters/scaling_": ("blue_green", "blue_green.copy"),
    "shifters/weighing": ("blue_green.shift", "autoscaling"),
    "sources/s3.py": ("s3",),
    "stacks.py": ("stacks",),
}
"""Whose operations a module calls, by the beginning of its path."""
LISTED = {(right.service, right.operation) for rights in FEATURES.values() for right in rights}
SERVICES = {service for service, _ in LISTED} | {"sqs", "events"}


@cache
def operations() -> dict[str, set[str]]:
    """The services that have an operation of this name."""
    session, found = botocore.session.get_session(), dict[str, set[str]]()
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(service)
    return found


def words(tree: ast.AST) -> Iterator[str]:
    """All words of a module, and those that it puts together of a beginning and another word."""
    plain = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    joined = [node.values[0] for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) and len(node.values) > 1]
    starts = [first.value for first in joined if isinstance(first, ast.Constant) and str(first.value).endswith("_")]
    yield from plain
    yield from (f"{start}{word}" for start in starts for word in plain)


def called(text: str) -> Iterator[tuple[set[str], str]]:
    """Operations that a module names, as words or as methods of clients, with the services that may be meant."""
    tree = ast.parse(text)
    yield from ((operations()[word], word) for word in words(tree) if word in operations())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            said = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            yield from (({a}, b) for a, b in pairwise(said) if a in operations().get(b, ()))
        if "import boto3" in text and isinstance(node, ast.Attribute) and node.attr in operations():
            yield operations()[node.attr], node.attr


def modules() -> Iterator[tuple[str, str]]:
    """Path and text."""
    for path in SOURCE.rglob("*.py"):
        inside = path.relative_to(SOURCE)
        if inside.parts[0] not in NOT_THE_COORDINATOR:
            yield str(inside), path.read_text()


def unlisted(path: str, text: str) -> set[str]:
    features = next((names for start, names in OWNERS.items() if path.startswith(start)), ())
    mine = {(right.service, right.operation) for name in features for right in FEATURES[name]}
    return {name for services, name in called(text) if not any((service, name) in mine for service in services)}


def test_every_operation_that_is_called_is_listed_where_it_belongs() -> None:
    for path, text in modules():
        assert not unlisted(path, text), f"{path}: add to FEATURES in aws/rights.py, and whose it is to OWNERS here"


def test_every_operation_that_is_listed_is_called() -> None:
    found = {(service, name) for _, text in modules() for services, name in called(text) for service in services}
    assert LISTED - found == set()


def test_an_operation_that_is_not_listed_is_found() -> None:
    assert unlisted("shifters/ecs.py", 'await ask("ecs", "delete_service", cluster=c)') == {"delete_service"}
    assert unlisted("sources/s3.py", 'import boto3\nboto3.client("s3").put_object()') == {"put_object"}
    assert unlisted("fleets/ec2.py", 'operation = "stop_instances"') == {"stop_instances"}
    assert unlisted("balancers/elbv2.py", 'await ask("elbv2", "register_targets")') == set()
    assert unlisted("balancers/elb.py", 'await ask("elbv2", "register_targets")') == {"register_targets"}
    joined = 'await ask("ec2", f"stop_{what}"); what = "instances"'
    assert unlisted("fleets/ec2.py", joined) == {"stop_instances"}
    assert unlisted("new.py", 'await ask("elbv2", "register_targets")') == {"register_targets"}
