"""The AWS stand-in: one endpoint for every service. What moto lacks or does wrong is served here, the rest by moto."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any

from werkzeug.wrappers import Request as WebRequest
from werkzeug.wrappers import Response

from opsctl.sandbox.aws.aws_services import AwsServices
from opsctl.sandbox.aws.ecs_model import EcsTask
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import CLUSTER
from opsctl.sandbox.aws.seed import AwsSeed, fill_facts
from opsctl.sandbox.aws.signatures import SignatureCheck
from opsctl.sandbox.aws.sts import check_key
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, error_answer, json_answer, read_request, send
from opsctl.sandbox.services import SandboxContext, SandboxService, WSGIApp
from opsctl.sandbox.web import Handler, json_object, refuse
from opsctl.sandbox.web import answer as done

# Services of which the sandbox has its own whole version, so that a call they lack isn't passed on to moto.
_OWN = frozenset({"ecs", "ecr", "application-autoscaling", "rds-data"})

# Lines of other parts that wait until somebody reads logs.
KEPT_LINES = 5_000

# Seconds for which HH's functions and their gateway keep a secret, or an answer that rests on one.
FUNCTION_CACHE = 300.0


class AwsEndpoint(AwsServices):
    """One WSGI application for every AWS service. Calls are answered one at a time, statements of rds-data side by side.

    `services` gives the parts of it; a service is seeded at its first call.
    """

    name = "aws"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._lock = threading.RLock()
        self._moto = MotoApp()
        self._timeline = EventLog(world.clock)
        self.controls: dict[str, Handler] = {
            "POST /snapshot-failure": self._fail_next_snapshot,
            "POST /rotation-failure": self._fail_next_rotation,
            "POST /figure": self._force_figure,
        }
        fill_facts(world.facts, world.clock)
        world.facts["function_cache"] = f"{ceil(world.wait(FUNCTION_CACHE))}s"
        self._moto.reset()
        self._begin()

    def _begin(self) -> None:
        self.build(self._world, self._timeline, self._moto, self._login)
        self._lines: deque[tuple[str, int, str]] = deque(maxlen=KEPT_LINES)
        self._seed = AwsSeed(self, self._moto, self._world.facts, self._timeline.now())

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one AWS call, in the protocol in which it came."""
        if environ.get("PATH_INFO") == self.signer.path:
            return send(Answer(200, [("Content-Type", "application/x-pem-file")], self.signer.certificate), start_response)
        request = read_request(environ)
        try:
            answer = self._answer(request)
        except AwsError as error:
            answer = error_answer(request, error)
        self.trail.note(request, answer)
        return send(answer, start_response)

    def guarded(self, app: WSGIApp) -> WSGIApp:
        """The application behind the check of signatures, so that a key's id alone, which is published, opens nothing."""
        return SignatureCheck(app, self._secret_of)

    def _secret_of(self, key: str) -> str | None:
        if key == self._world.facts["access_key_id"]:
            return self._world.facts["secret_access_key"]
        return self._lent_keys().get(key) if key.startswith("ASIA") else None

    def operation(self, environ: Mapping[str, Any]) -> str:
        """The call's name for fault rules, such as `ecs.UpdateService`: the signing name of the service and the operation."""
        request = read_request(environ)
        return f"{request.service}.{request.operation}"

    def reset(self) -> None:
        """Put the seeded state back; each service is seeded anew at its next call."""
        with self._lock:
            self.rds_data.close()
            self._timeline.clear()
            self._moto.reset()
            self._begin()

    def running_tasks(self, cluster: str, service: str) -> list[EcsTask]:
        """The tasks that run now, oldest first; none for an unknown service."""
        with self._lock:
            self._prepare("ecs")
            found = self.ecs.service(cluster, service)
            return list(found.running()) if found else []

    def fail_next_rollout(self, service: str, cluster: str = CLUSTER) -> None:
        """Have the next deployment of a service fail and roll back.

        Raises KeyError for an unknown service.
        """
        with self._lock:
            self._prepare("ecs")
            found = self.ecs.service(cluster, service)
            if found is None:
                raise KeyError(service)
            found.fail_next = True

    def _fail_next_snapshot(self, _: Any) -> Response:
        with self._lock:
            self.rds.snapshots.fail_next()
        return done({})

    def _fail_next_rotation(self, _: Any) -> Response:
        with self._lock:
            self.secrets.fail_next(self.trail.rotation_failed)
        return done({})

    def _force_figure(self, asked: WebRequest) -> Response:
        told = json_object(asked)
        with self._lock:
            self._prepare("monitoring")
            try:
                since = self._timeline.now() - float(told.get("minutes", 0)) * 60
                self.cloudwatch.force(str(told.get("metric", "")), float(told["value"]), since)
            except (KeyError, TypeError, ValueError) as error:
                raise refuse({"error": f"the sandbox measures no such figure: {error}"}, 400) from error
        return done({})

    def clear(self) -> None:
        """Clear what was set through the controls."""
        with self._lock:
            self.cloudwatch.let_go()

    def move_image_tag(self, repository: str, tag: str, digest: str) -> None:
        """Have a tag mean another image (`sha256:<hex>`) from now on, as a push would."""
        with self._lock:
            self._prepare("ecr")
            self.ecr.push(repository, tag, digest, self._timeline.now())

    def measure_connections(self, count: int) -> None:
        """Set the number of connections to the writer in this minute's metric."""
        with self._lock:
            self._prepare("monitoring")
            self.cloudwatch.measure("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": CLUSTER}, count)

    def log(self, group: str, line: Mapping[str, Any] | str) -> None:
        """Add a line, text or JSON, to a seeded log group; it shows at the next call to CloudWatch Logs.

        A group of HH's functions is in their region, any other in Safawinet's.
        """
        self._lines.append((group, int(self._timeline.now() * 1000), line if isinstance(line, str) else json.dumps(line)))

    def secret(self, region: str, name: str) -> str:
        """The current value of a text secret.

        Raises AwsError for a secret that isn't there.
        """
        with self._lock:
            self._prepare("secretsmanager")
            return self.secrets.current(region, name)

    def function_environment(self, region: str, name: str) -> dict[str, str]:
        """The environment variables with which calls of a Lambda function run now.

        Raises AwsError for a function that isn't there.
        """
        with self._lock:
            self._prepare("lambda")
            return self.lambdas.environment(region, name)

    def function_instance(self, region: str, name: str) -> str:
        """What tells a function's running instances from the ones that replace them, whose memory begins empty.

        Raises AwsError for a function that isn't there.
        """
        with self._lock:
            self._prepare("lambda")
            return self.lambdas.instance(region, name)

    def _answer(self, request: Request) -> Answer:
        check_key(request, self._world.facts["access_key_id"], self._lent_keys)
        operation = self.operations.get(request.service, {}).get(request.operation)
        if request.service == "rds-data" and operation:
            return _as_answer(operation(request))
        with self._lock:
            self._prepare(request.service)
            if operation:
                return _as_answer(operation(request))
            if request.service in _OWN:
                raise AwsError("NotImplemented", f"The sandbox doesn't serve {self.operation(request.environ)}.", 501)
            return self._moto(request)

    def _prepare(self, service: str) -> None:
        self._timeline.settle()
        self._seed.ensure(service)
        while service == "logs" and self._lines:
            self.logs.write(*self._lines.popleft())

    def _login(self, region: str, arn: str) -> Mapping[str, Any]:
        with self._lock:
            self._prepare("secretsmanager")
            try:
                login = json.loads(self.secrets.current(region, arn))
                return {"username": login["username"], "password": login["password"]}
            except AwsError as error:
                raise AwsError("BadRequestException", f"Error fetching secret {arn} : {error.message}") from error
            except (ValueError, KeyError, TypeError) as error:
                message = f"Secret {arn} is not JSON with username and password."
                raise AwsError("BadRequestException", message) from error

    def _lent_keys(self) -> dict[str, str]:
        """The keys that AssumeRole lent, with their secrets."""
        lent = backend("sts.models.sts_backends").assumed_roles
        return {role.access_key_id: role.secret_access_key for role in lent}


def _as_answer(value: Mapping[str, Any] | Answer) -> Answer:
    return value if isinstance(value, Answer) else json_answer(value)


def build(world: SandboxContext) -> SandboxService:
    """The AWS part of a world. moto's state is the process's, so one world a process."""
    return AwsEndpoint(world)
