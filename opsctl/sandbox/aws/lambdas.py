"""Lambda: revisions that are honoured, updates that take a while, versions only of what changed; the rest is moto's.

Callers of a function use its alias `live` where it has one, and else $LATEST.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import unquote

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend, part
from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, json_answer

UPDATE_SECONDS = 2.0
ENVIRONMENT_BYTES = 4096
_STALE = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)
_RESERVED = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ACCESS_KEY_ID", "_HANDLER"})

_NOT_PUBLISHED = frozenset({"FunctionArn", "LastModified", "LastUpdateStatus", "RevisionId", "State", "Version"})
LATEST, LIVE = "$LATEST", "live"

Key = tuple[str, str]


class FakeLambda:
    """What AWS keeps of each function beside what moto does: revisions, updates under way, and what was last published."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], moto: MotoApp) -> None:
        self._timeline = timeline
        self._wait = wait
        self._moto = moto
        self._revisions: dict[tuple[Key, str], str] = {}
        self._before: dict[Key, dict[str, str]] = {}
        self._published: dict[Key, str] = {}
        self._finished: Counter[Key] = Counter()
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "UpdateFunctionConfiguration": self._update,
            "UpdateFunctionCode": self._update,
            "PublishVersion": self._publish,
            "GetFunctionConfiguration": self._configuration,
            "GetFunction": self._configuration,
            "UpdateAlias": self._update_alias,
        }

    def seed(self, region: str, name: str, variables: Mapping[str, str], modified: float, alias: str = "") -> None:
        """Make a function with environment variables, last modified then (epoch seconds); an alias means its version 1."""
        body = {
            "FunctionName": name,
            "Runtime": "nodejs22.x",
            "Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "Handler": "index.handler",
            "Code": {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="},
            "Environment": {"Variables": dict(variables)},
            "Timeout": 10,
            "MemorySize": 256,
        }
        functions = "/2015-03-31/functions"
        self._moto.rest("lambda", region, functions, body)
        function = self._function((region, name))
        function.last_modified = _timestamp(modified)
        if alias:
            self._published[region, name] = _fingerprint(function)
            self._moto.rest("lambda", region, f"{functions}/{name}/versions", {})
            self._moto.rest("lambda", region, f"{functions}/{name}/aliases", {"Name": alias, "FunctionVersion": "1"})

    def environment(self, region: str, name: str) -> dict[str, str]:
        """The environment variables that calls of a function meet; during an update the former ones.

        Raises AwsError where there is no such function.
        """
        key = (region, name)
        version = self._live(key)
        if version == LATEST and key in self._before:
            return dict(self._before[key])
        return dict(self._function(key, version).environment_vars)

    def instance(self, region: str, name: str) -> str:
        """The version that calls of a function meet, and of $LATEST which state. Raises AwsError as `environment` does."""
        key = (region, name)
        self._function(key)
        version = self._live(key)
        return f"{version} {self._finished[key]}" if version == LATEST else version

    def _live(self, key: Key) -> str:
        alias = _alias(key, LIVE)
        return str(alias.function_version) if alias else LATEST

    def _function(self, key: Key, version: str = LATEST) -> Any:
        try:
            return _backend(key[0]).get_function(key[1], None if version == LATEST else version)
        except part("awslambda.exceptions.UnknownFunctionException") as error:
            raise AwsError("ResourceNotFoundException", f"Function not found: {key[1]}", 404) from error

    def _update(self, request: Request) -> Answer:
        key = self._check(request)
        self._check_settled(key)
        _check_variables(request.params.get("Environment", {}).get("Variables", {}))
        function = self._function(key)
        before, modified = dict(function.environment_vars), function.last_modified
        # moto never changes it.
        function.last_modified = _timestamp(self._timeline.now())
        answer = self._moto(request)
        if answer.status < 300:
            self._renew(key)
            self._before[key] = before
            self._timeline.at(self._timeline.now() + self._wait(UPDATE_SECONDS), partial(self._finish, key))
        else:
            function.last_modified = modified
        return self._marked(key, answer)

    def _finish(self, key: Key, due: float) -> None:
        self._before.pop(key, None)
        self._finished[key] += 1

    def _publish(self, request: Request) -> Answer:
        key = self._check(request)
        self._check_settled(key)
        function = self._function(key)
        now = _fingerprint(function)
        changed = self._published.get(key) != now
        # moto asks this mark, and sets it at every update, also at one that changed nothing.
        function.code_or_config_updated = changed
        answer = self._moto(request)
        if answer.status < 300:
            self._published[key] = now
            if changed:
                self._renew(key)
        return self._marked(key, answer)

    def _update_alias(self, request: Request) -> Answer:
        key, name = _key(request), unquote(str(request.params.get("Name", "")))
        alias = _alias(key, name)
        if alias is None:
            raise AwsError("ResourceNotFoundException", f"Alias not found: arn:aws:lambda:{key[0]}:{ACCOUNT}:function:{key[1]}:{name}", 404)
        if request.params.get("RevisionId") not in (None, alias.revision_id):
            raise AwsError("PreconditionFailedException", _STALE, 412)
        version = request.params.get("FunctionVersion")
        if version is not None:
            self._function(key, str(version))
        answer = self._moto(request)
        if answer.status >= 300:
            return answer
        alias.revision_id = str(uuid.uuid4())
        return json_answer(alias.to_json())

    def _configuration(self, request: Request) -> Answer:
        return self._marked(_key(request), self._moto(request))

    def _check(self, request: Request) -> Key:
        key = _key(request)
        wanted = request.params.get("RevisionId")
        if wanted and wanted != self._revision(key):
            raise AwsError("PreconditionFailedException", _STALE, 412)
        return key

    def _check_settled(self, key: Key) -> None:
        if key in self._before:
            message = (
                "The operation cannot be performed at this time. An update is in progress for resource: "
                f"arn:aws:lambda:{key[0]}:{ACCOUNT}:function:{key[1]}"
            )
            raise AwsError("ResourceConflictException", message, 409)

    def _revision(self, key: Key, version: str = LATEST) -> str:
        return self._revisions.setdefault((key, version), str(uuid.uuid4()))

    def _renew(self, key: Key) -> None:
        self._revisions[key, LATEST] = str(uuid.uuid4())

    def _marked(self, key: Key, answer: Answer) -> Answer:
        if answer.status >= 300:
            return answer
        content = answer.json()
        configuration = content.get("Configuration", content)
        version = str(configuration.get("Version"))
        configuration["RevisionId"] = self._revision(key, version)
        updating = key in self._before and version == LATEST
        configuration["LastUpdateStatus"] = "InProgress" if updating else "Successful"
        return Answer(answer.status, json_answer({}).headers, json.dumps(content).encode())


def _backend(region: str) -> Any:
    return backend("awslambda.models.lambda_backends", region)


def _alias(key: Key, name: str) -> Any:
    try:
        return _backend(key[0]).get_alias(name, key[1])
    except (part("awslambda.exceptions.UnknownAliasException"), part("awslambda.exceptions.UnknownFunctionException")):
        return None


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def _fingerprint(function: Any) -> str:
    """What of a function a version is of."""
    told = {name: value for name, value in function.get_configuration().items() if name not in _NOT_PUBLISHED}
    return json.dumps(told, sort_keys=True, default=str)


def _key(request: Request) -> Key:
    name = unquote(str(request.params.get("FunctionName", "")))
    return request.region, name.partition(":function:")[2].partition(":")[0] or name.partition(":")[0]


def _check_variables(variables: Mapping[str, str]) -> None:
    if sum(len(name) + len(value) for name, value in variables.items()) > ENVIRONMENT_BYTES:
        message = (
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided exceeded the 4KB limit."
        )
        raise AwsError("InvalidParameterValueException", message)
    if reserved := sorted(_RESERVED & set(variables)):
        message = (
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
        raise AwsError("InvalidParameterValueException", message)
