"""A template's deployments: what is in it, what the coordinator says of that, and what is asked of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.cli.client import Api
from shiftwork_coordinator.cli.output import clean
from shiftwork_coordinator.sam.intrinsics import Scope
from shiftwork_coordinator.sam.reading import read
from shiftwork_coordinator.sam.template import load
from shiftwork_coordinator.sam.wanted import Wanted, settings

APPLICATION = "ServerlessDeploymentApplication"
"""As SAM calls it, where neither an application nor a stack is named."""
UNPUBLISHED = "$LATEST"
"""What stands for a version that is published by the deployment (functions.py)."""
EPOCH = (1980, 1, 1, 0, 0, 0)
Told = Mapping[str, Any]


class Options(msgspec.Struct, frozen=True):
    template: Path
    parameters: dict[str, str] = {}
    application: str = ""
    stack_name: str = ""
    region: str = ""
    role_arn: str = ""
    build_dir: Path | None = None
    publish: bool = True
    answer: str = "call"


class Planned(msgspec.Struct, frozen=True):
    """`code` is where a function's code lies here, by its group; `plans` are the coordinator's, in the order of
    `wanted`."""

    application: str
    file: str
    text: str
    wanted: tuple[Wanted, ...]
    code: dict[str, Path]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    changes: tuple[Told, ...] = ()
    plans: tuple[Told, ...] = ()


async def planned(api: Api, options: Options) -> Planned:
    """Touches nothing. What is wrong with the template is told before the coordinator is asked about the rest."""
    template = load(options.template.read_text(encoding="utf-8"), str(options.template))
    found = read(await _scope(api, options, template))
    application = options.application or options.stack_name or APPLICATION
    groups = settings(found.wanted, application, region=options.region, role=options.role_arn, answer=options.answer)
    code = {one.group: path for one in found.wanted if (path := _code(one, options)) is not None}
    file, text = str(options.template), json.dumps(groups)
    made = Planned(application, file, text, found.wanted, code, found.notes, found.problems)
    if found.problems:
        return made
    asked = [_asked(application, one, UNPUBLISHED if one.group in code else "") for one in found.wanted]
    answer = await api.ask("POST", "/v1/together/plan", {"file": file, "text": text, "deployments": asked})
    told = answer.read(dict[str, list[dict[str, Any]]])
    plans = told.get("plans", [])
    notes, problems = _problems(plans, fatal=False), _problems(plans, fatal=True)
    return msgspec.structs.replace(
        made,
        changes=tuple(told.get("changes", [])),
        plans=tuple(plans),
        notes=(*found.notes, *notes),
        problems=problems,
    )


async def create(api: Api, found: Planned, tell: Callable[[str], None]) -> list[str]:
    """The ids of the deployments. Settings and versions are made first; the deployments come all or not at all."""
    if any(change.get("change") != "unchanged" for change in found.changes):
        await api.ask("POST", "/v1/apply", {"file": found.file, "text": found.text})
    asked = []
    for one, plan in zip(found.wanted, found.plans, strict=True):
        if one.group not in found.code:
            if not plan.get("upToDate"):
                asked.append(_asked(found.application, one, _shift(plan)["target"]))
            continue
        version = await _publish(api, found, one)
        current = _shift(plan)["current"]
        tell(f"{one.logical}: version {version} of {one.function}" + (" is there already" * (version == current)))
        if version != current:
            asked.append(_asked(found.application, one, version))
    if not asked:
        return []
    answer = await api.ask("POST", "/v1/together", {"deployments": asked})
    made = answer.read(dict[str, list[dict[str, Any]]])["deployments"]
    for each in made:
        tell(f"Deployment {each['deploymentId']} of {each['applicationName']}/{each['deploymentGroupName']} created")
    return [str(each["deploymentId"]) for each in made]


def shown(found: Planned) -> dict[str, Any]:
    """The plan as one object."""
    functions = [
        {**msgspec.to_builtins(one), "publish": str(found.code.get(one.group, "")), "plan": dict(plan)}
        for one, plan in zip(found.wanted, found.plans or ({},) * len(found.wanted), strict=True)
    ]
    return {
        "application": found.application,
        "functions": functions,
        "changes": list(found.changes),
        "notes": list(found.notes),
        "problems": list(found.problems),
    }


def lines(found: Planned) -> Iterator[str]:
    """The plan for people."""
    for change in found.changes:
        detail = f": {change['detail']}" if change.get("detail") else ""
        yield clean(f"{change.get('kind', '')} {change.get('name', '')} {change.get('change', '')}{detail}")
    if not found.plans:
        yield from (clean(f"{one.logical}: {_written(one)}") for one in found.wanted)
    for one, plan in zip(found.wanted, found.plans, strict=False):
        yield clean(f"{one.logical}: {_move(found, one, plan)}")
        yield from (clean(f"    {step}") for step in plan.get("steps", ()) if isinstance(step, str))
    yield from (clean(f"note: {note}") for note in found.notes)
    yield from (clean(f"problem: {problem}") for problem in found.problems)
    if not found.problems:
        yield "No problems found."


def _written(one: Wanted) -> str:
    """What the template says, as far as it can be told."""
    more = {"before": one.before, "after": one.after, "alarms": " ".join(one.alarms)}
    told = "".join(f", {word} {text}" for word, text in more.items() if text)
    return f"{one.function or '?'}:{one.alias or '?'}, {one.config or '?'}{told}"


def _move(found: Planned, one: Wanted, plan: Told) -> str:
    if plan.get("upToDate"):
        return f"{one.function}:{one.alias} is at its newest version; nothing to do"
    if not plan.get("resources"):
        return f"{one.function}:{one.alias} cannot be deployed"
    shift = _shift(plan)
    target = f"a new one from {found.code[one.group]}" if one.group in found.code else shift["target"]
    return f"{one.function}:{one.alias} from version {shift['current']} to {target}, {plan.get('config', '')}"


def _shift(plan: Told) -> Told:
    found: Told = plan["resources"][0]
    return found


def _problems(plans: list[dict[str, Any]], *, fatal: bool) -> tuple[str, ...]:
    return tuple(
        f"{plan.get('group', '')}: {problem.get('message', '')}"
        for plan in plans
        for problem in plan.get("problems", ())
        if problem.get("fatal", True) is fatal
    )


async def _scope(api: Api, options: Options, template: dict[str, Any]) -> Scope:
    pseudo, stack = {"AWS::Region": options.region, "AWS::StackName": options.stack_name}, {}
    if options.stack_name:
        path = f"/v1/stacks/{quote(options.stack_name, safe='')}"
        told = (await api.ask("GET", path, region=options.region)).read(dict[str, Any])
        stack = told["resources"]
        _, partition, _, region, account, *_ = str(told["id"]).split(":")
        pseudo |= {"AWS::StackId": told["id"], "AWS::Partition": partition, "AWS::AccountId": account}
        pseudo["AWS::Region"] = options.region or region
    return Scope(template, options.parameters, {key: value for key, value in pseudo.items() if value}, stack)


def _code(one: Wanted, options: Options) -> Path | None:
    """Where the code lies that becomes the new version; None where none is published."""
    if not options.publish:
        return None
    if options.build_dir is not None:
        built = options.build_dir / one.logical
        if not built.exists():
            raise InvalidRequest(f"cannot publish {one.logical}: there is no {built}; run `sam build` first")
        return built
    path = options.template.parent / one.code
    return path if one.code and path.exists() else None


def _asked(application: str, one: Wanted, version: str) -> dict[str, object]:
    function = {"name": one.function, "alias": one.alias, "version": version}
    return {"application": application, "group": one.group, "function": function}


async def _publish(api: Api, found: Planned, one: Wanted) -> str:
    path = found.code[one.group]
    data = zipped(path) if path.is_dir() else path.read_bytes()

    async def content() -> AsyncIterator[bytes]:
        yield data

    at = f"/v1/functions/{quote(found.application)}/{quote(one.group)}/{quote(one.function, safe='')}"
    return str((await api.upload(at, content(), len(data))).read(dict[str, Any])["version"])


def zipped(directory: Path) -> bytes:
    """The same bytes for the same files, so that Lambda sees when nothing has changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(each for each in directory.rglob("*") if each.is_file()):
            about = zipfile.ZipInfo(path.relative_to(directory).as_posix(), EPOCH)
            about.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, path.read_bytes())
    return out.getvalue()
