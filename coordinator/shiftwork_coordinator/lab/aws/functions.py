"""What moto lacks of Lambda: revisions and weights of aliases that are checked, provisioned concurrency that takes its
time, and invocations that run the code, by the share that the alias gives each version."""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handlers, Pass, answer, refusal
from shiftwork_coordinator.lab.aws.metrics import Metrics
from shiftwork_coordinator.lab.aws.runner import Code, Outcome, Runner, Version
from shiftwork_coordinator.ports import Clock

LATEST = "$LATEST"


class Alias(NamedTuple):
    version: str
    weights: dict[str, float]
    revision: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`provisioned_after`: seconds until provisioned concurrency is READY; negative = it fails."""

    provisioned_after: float = 0.5


class Functions:
    def __init__(
        self, runner: Runner, metrics: Metrics, clock: Clock, later: Callable[[Any], object], seed: int | None = None
    ) -> None:
        self._runner, self._metrics, self._clock, self._later = runner, metrics, clock, later
        self._random = random.Random(seed)
        self._code: dict[Version, Code] = {}
        self._aliases: dict[tuple[str, str], Alias] = {}
        self._provisioned: dict[tuple[str, str], tuple[int, float]] = {}
        self._writing = asyncio.Lock()
        self.settings = Settings()
        self.served: dict[Version, int] = {}

    def handlers(self) -> Handlers:
        mine = {
            "CreateFunction": self.keep_code,
            "UpdateFunctionCode": self.keep_code,
            "UpdateFunctionConfiguration": self.keep_configuration,
            "PublishVersion": self.publish,
            "CreateAlias": self.write_alias,
            "UpdateAlias": self.write_alias,
            "GetAlias": self.read_alias,
            "DeleteAlias": self.delete_alias,
            "PutProvisionedConcurrencyConfig": self.put_provisioned,
            "GetProvisionedConcurrencyConfig": self.get_provisioned,
            "DeleteProvisionedConcurrencyConfig": self.delete_provisioned,
            "Invoke": self.invoke,
        }
        return {("lambda", name): handler for name, handler in mine.items()}

    # Code and versions

    async def keep_code(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if not answered.fine:
            return answered
        about = answered.read()
        given = msgspec.json.decode(asked.body)
        packed = await self._packed(given.get("Code", given), asked, moto)
        await self._runner.forget(Version(about["FunctionName"], LATEST))
        self._store(about, LATEST, packed)
        self._store(about, str(about.get("Version", LATEST)), packed)
        return answered

    async def _packed(self, given: dict[str, Any], asked: Asked, moto: Pass) -> bytes:
        if "ZipFile" in given:
            return base64.b64decode(given["ZipFile"])
        path = f"/{given.get('S3Bucket')}/{quote(str(given.get('S3Key')))}"
        unsigned = {"Authorization": asked.headers.get("Authorization", "").replace("/lambda/", "/s3/")}
        return (await moto(asked._replace(method="GET", path=path, headers=unsigned, body=b""))).body

    def _store(self, about: dict[str, Any], version: str, packed: bytes) -> None:
        variables = about.get("Environment", {}).get("Variables", {})
        code = Code(packed, about.get("Handler", ""), float(about.get("Timeout", 3)), variables)
        self._code[Version(about["FunctionName"], version)] = code

    async def keep_configuration(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        latest = Version(_named(asked)[0], LATEST)
        if answered.fine and latest in self._code:
            await self._runner.forget(latest)
            self._store(answered.read(), LATEST, self._code[latest].zip)
        return answered

    async def publish(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            about = answered.read()
            latest = self._code.get(Version(about["FunctionName"], LATEST))
            if latest and Version(about["FunctionName"], about["Version"]) not in self._code:
                self._store(about, about["Version"], latest.zip)
        return answered

    # Aliases

    async def write_alias(self, asked: Asked, moto: Pass) -> Answer:
        function, name = _named(asked)[0], asked.call.parameters["Name"]
        async with self._writing:  # what is checked is what is overwritten
            if refused := self._wrong(function, self._aliases.get((function, name)), asked.call.parameters):
                return refused
            answered = await moto(asked)
            if answered.fine:
                about = answered.read()
                alias = Alias(about["FunctionVersion"], _weights(about), secrets.token_hex(16))
                self._aliases[function, name] = alias
        return self._shown(answered, function, name, 201 if asked.call.operation == "CreateAlias" else 200)

    def _wrong(self, function: str, before: Alias | None, given: Any) -> Answer | None:
        revision = given.get("RevisionId")
        if revision and before and revision != before.revision:
            text = "The Revision Id provided does not match the latest Revision Id. Call the GetAlias API"
            return refusal("PreconditionFailedException", text, 412)
        version = given.get("FunctionVersion") or (before.version if before else "")
        weights = _weights(given)
        if not weights:
            return None
        wrong = {
            "more than one additional version": len(weights) > 1,
            "a weight is not between 0 and 1": not all(0 <= weight <= 1 for weight in weights.values()),
            "an additional version is the alias's own": version in weights,
            f"{LATEST} cannot have or be an additional version": LATEST in (version, *weights),
        }
        if found := [why for why, holds in wrong.items() if holds]:
            return refusal("InvalidParameterValueException", f"Invalid routing configuration: {found[0]}")
        if unknown := [v for v in weights if Version(function, v) not in self._code]:
            return refusal("ResourceNotFoundException", f"Function not found: {function}:{unknown[0]}", 404)
        return None

    async def read_alias(self, asked: Asked, moto: Pass) -> Answer:
        return self._shown(await moto(asked), _named(asked)[0], asked.call.parameters["Name"])

    def _shown(self, answered: Answer, function: str, name: str, status: int = 200) -> Answer:
        """With its revision and, as AWS does it, without an empty routing configuration."""
        alias = self._aliases.get((function, name))
        if not answered.fine or alias is None:
            return answered
        about = answered.read() | {"RevisionId": alias.revision}
        if not alias.weights:
            about.pop("RoutingConfig", None)
        return answer(about, status)

    async def delete_alias(self, asked: Asked, moto: Pass) -> Answer:
        self._aliases.pop((_named(asked)[0], asked.call.parameters["Name"]), None)
        return await moto(asked)

    # Provisioned concurrency

    async def put_provisioned(self, asked: Asked, moto: Pass) -> Answer:
        given = asked.call.parameters
        key = _named(asked)[0], given["Qualifier"]
        self._provisioned[key] = int(given["ProvisionedConcurrentExecutions"]), self._clock.now()
        return answer(self._progress(key), 202)

    async def get_provisioned(self, asked: Asked, moto: Pass) -> Answer:
        key = _named(asked)[0], asked.call.parameters["Qualifier"]
        if key not in self._provisioned:
            text = "No Provisioned Concurrency Config found for this function"
            return refusal("ProvisionedConcurrencyConfigNotFoundException", text, 404)
        return answer(self._progress(key))

    async def delete_provisioned(self, asked: Asked, moto: Pass) -> Answer:
        self._provisioned.pop((_named(asked)[0], asked.call.parameters["Qualifier"]), None)
        return Answer(204)

    def _progress(self, key: tuple[str, str]) -> dict[str, Any]:
        wanted, since = self._provisioned[key]
        told: dict[str, Any] = {"RequestedProvisionedConcurrentExecutions": wanted}
        if self.settings.provisioned_after < 0:
            return told | {"Status": "FAILED", "StatusReason": "not enough concurrency is left", **_ready(0)}
        done = self._clock.now() - since >= self.settings.provisioned_after
        return told | {"Status": "READY" if done else "IN_PROGRESS", **_ready(wanted if done else 0)}

    # Invocations

    async def invoke(self, asked: Asked, moto: Pass) -> Answer:
        function, qualifier = _named(asked)
        version = self._chosen(function, qualifier)
        if version is None or version not in self._code:
            name = f"{function}:{qualifier}" if qualifier else function
            return refusal("ResourceNotFoundException", f"Function not found: {name}", 404)
        running = self._run(version, qualifier, asked.body)
        if asked.call.parameters.get("InvocationType") == "Event":
            self._later(running)
            return Answer(202, headers={"X-Amz-Executed-Version": version.version})
        outcome = await running
        error = {"X-Amz-Function-Error": "Unhandled"} if outcome.failed else {}
        return Answer(200, outcome.payload, {"X-Amz-Executed-Version": version.version, **error})

    def _chosen(self, function: str, qualifier: str) -> Version | None:
        if not qualifier or qualifier == LATEST or qualifier.isdigit():
            return Version(function, qualifier or LATEST)
        alias = self._aliases.get((function, qualifier))
        if alias is None:
            return None
        drawn = self._random.random()
        for version, weight in alias.weights.items():
            if drawn < weight:
                return Version(function, version)
            drawn -= weight
        return Version(function, alias.version)

    async def _run(self, version: Version, qualifier: str, event: bytes) -> Outcome:
        outcome = await self._runner.run(version, self._code[version], event)
        self.served[version] = self.served.get(version, 0) + 1
        self._measure(version, qualifier, outcome)
        return outcome

    def _measure(self, version: Version, qualifier: str, outcome: Outcome) -> None:
        """As Lambda does it: for the function, for the alias, and for the alias by version."""
        function = {"FunctionName": version.function}
        resource = function | {"Resource": f"{version.function}:{qualifier}" if qualifier else version.function}
        for dimensions in (function, resource, resource | {"ExecutedVersion": version.version}):
            self._metrics.put("AWS/Lambda", "Invocations", dimensions, 1.0)
            self._metrics.put("AWS/Lambda", "Errors", dimensions, float(outcome.failed))


def _named(asked: Asked) -> tuple[str, str]:
    """Function and qualifier, however they were named: by ARN, as `name:qualifier`, by parameter."""
    given = asked.call.parameters
    name = str(given.get("FunctionName", ""))
    parts = name.split(":")
    if name.startswith("arn:"):
        parts = parts[6:]
    function, qualifier = parts[0], parts[1] if len(parts) > 1 else ""
    return function, str(given.get("Qualifier", qualifier))


def _weights(given: Any) -> dict[str, float]:
    return dict((given.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {})


def _ready(count: int) -> dict[str, int]:
    return {"AvailableProvisionedConcurrentExecutions": count, "AllocatedProvisionedConcurrentExecutions": count}
