"""Lambda: revisions that are honoured and updates that take a while, as AWS does; the rest is moto's."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.timeline import Timeline
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, json_answer

UPDATE_SECONDS = 2.0
ENVIRONMENT_BYTES = 4096
_STALE = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)
_RESERVED = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ACCESS_KEY_ID", "_HANDLER"})

Key = tuple[str, str]


class Lambda:
    """The revision and the update status of each function's $LATEST, added to what moto answers."""

    def __init__(self, timeline: Timeline, wait: Callable[[float], float], moto: Moto) -> None:
        self._timeline = timeline
        self._wait = wait
        self._moto = moto
        self._revisions: dict[Key, str] = {}
        self._updating: set[Key] = set()
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "UpdateFunctionConfiguration": self._update,
            "UpdateFunctionCode": self._update,
            "PublishVersion": self._publish,
            "GetFunctionConfiguration": self._shown,
            "GetFunction": self._shown,
        }

    def seed(self, region: str, name: str, variables: Mapping[str, str]) -> None:
        """Make a function with environment variables."""
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
        self._moto.rest("lambda", region, "/2015-03-31/functions", body)

    def environment(self, region: str, name: str) -> dict[str, str]:
        """A function's environment variables. Raises AwsError where there is no such function."""
        from moto.awslambda.exceptions import UnknownFunctionException
        from moto.awslambda.models import lambda_backends

        try:
            function = lambda_backends[ACCOUNT][region].get_function(name)
        except UnknownFunctionException as error:
            raise AwsError("ResourceNotFoundException", f"Function not found: {name}", 404) from error
        return dict(function.environment_vars)

    def _update(self, request: Request) -> Answer:
        key = self._check(request)
        if key in self._updating:
            message = f"The operation cannot be performed at this time. An update is in progress for resource: {key[1]}"
            raise AwsError("ResourceConflictException", message, 409)
        _check_variables(request.params.get("Environment", {}).get("Variables", {}))
        answer = self._moto(request)
        if answer.status < 300:
            self._revisions[key] = str(uuid.uuid4())
            self._updating.add(key)
            finish = partial(self._finish, key)
            self._timeline.at(self._timeline.now() + self._wait(UPDATE_SECONDS), finish)
        return self._marked(key, answer)

    def _finish(self, key: Key, due: float) -> None:
        self._updating.discard(key)

    def _publish(self, request: Request) -> Answer:
        key = self._check(request)
        return self._marked(key, self._moto(request))

    def _shown(self, request: Request) -> Answer:
        return self._marked(_key(request), self._moto(request))

    def _check(self, request: Request) -> Key:
        key = _key(request)
        wanted = request.params.get("RevisionId")
        if wanted and wanted != self._revision(key):
            raise AwsError("PreconditionFailedException", _STALE, 412)
        return key

    def _revision(self, key: Key) -> str:
        return self._revisions.setdefault(key, str(uuid.uuid4()))

    def _marked(self, key: Key, answer: Answer) -> Answer:
        if answer.status >= 300:
            return answer
        content = answer.json()
        configuration = content.get("Configuration", content)
        configuration["RevisionId"] = self._revision(key)
        updating = key in self._updating and configuration.get("Version") == "$LATEST"
        configuration["LastUpdateStatus"] = "InProgress" if updating else "Successful"
        return Answer(answer.status, json_answer({}).headers, json.dumps(content).encode())


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
