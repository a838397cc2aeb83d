"""Secrets Manager: versions and staging labels as AWS keeps them, and rotations that take a while; everything else of it is moto's.

Each label is on one version at most. `AWSCURRENT` only moves, and leaves `AWSPREVIOUS` on the version it left. A version
without a label stays readable by its id. A rotation stages AWSPENDING, and its function, which no part of the sandbox is, then
makes that current with a value of its own.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

CURRENT, PREVIOUS, STAGED = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"
ROTATION_SECONDS = 3.0
_NO_SECRET = "Secrets Manager can't find the specified secret."
_DELETED = "You can't perform this operation on the secret because it was marked for deletion."


class FakeSecretsManager:
    """The calls that read or change versions, on moto's own store."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], moto: Callable[[Request], Answer]) -> None:
        self._timeline = timeline
        self._wait = wait
        self._moto = moto
        self._failing: Callable[[str, str], None] | None = None
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "GetSecretValue": self._get,
            "BatchGetSecretValue": self._batch_get,
            "PutSecretValue": self._put,
            "UpdateSecret": self._update,
            "UpdateSecretVersionStage": self._move_stage,
            "ListSecretVersionIds": self._versions,
            "DescribeSecret": self._describe,
            "ListSecrets": self._list,
            "RotateSecret": self._rotate,
        }

    def create(self, region: str, name: str, value: str | None = None, binary: str | None = None) -> None:
        """Add a secret; `binary` is base64 text."""
        self._backend(region).create_secret(
            name=name,
            secret_string=value,
            secret_binary=binary,
            description=None,
            tags=None,
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )

    def manage(self, region: str, name: str) -> None:
        """Give a secret of one JSON key a rotation of its own."""
        secret = self._secret(region, name)
        secret.rotation_requested = secret.rotation_enabled = True
        secret.rotation_lambda_arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:rotate-{name.rpartition('/')[2]}"

    def backdate(self, region: str, moment: float) -> None:
        """Have every secret of a region, and its versions, be from `moment` (epoch seconds), under a lasting ARN."""
        for secret in self._backend(region).secrets.values():
            suffix = hashlib.sha256(secret.name.encode()).hexdigest()[:6]
            secret.arn = f"arn:aws:secretsmanager:{region}:{ACCOUNT}:secret:{secret.name}-{suffix}"
            secret.created_date = secret.last_changed_date = moment
            for version in secret.versions.values():
                version["createdate"] = moment

    def arn(self, region: str, name: str) -> str:
        """The full ARN of a secret. Raises AwsError where there is none."""
        return str(self._secret(region, name).arn)

    def current(self, region: str, name: str) -> str:
        """The current value of a text secret, by name or ARN. Raises AwsError as GetSecretValue does."""
        return str(_find(self._secret(region, name), None, None).get("secret_string"))

    def resolve(self, value_from: str) -> str:
        """What a container gets for `valueFrom`: `<arn>[:json-key[:stage[:version-id]]]`.

        Raises AwsError as the ECS agent would report it when there is no such secret or key.
        """
        parts = value_from.split(":")
        arn, rest = ":".join(parts[:7]), [*parts[7:], "", "", ""]
        secret = self._secret(parts[3], arn)
        if secret.is_deleted():
            raise AwsError("ResourceInitializationError", f"secret {arn} was marked for deletion")
        version = _find(secret, rest[2] or None, rest[1] or None)
        text = str(version.get("secret_string", ""))
        if not rest[0]:
            return text
        try:
            return str(json.loads(text)[rest[0]])
        except (TypeError, ValueError, KeyError) as error:
            raise AwsError("ResourceInitializationError", f"retrieved secret has no key {rest[0]}") from error

    def _backend(self, region: str) -> Any:
        return backend("secretsmanager.models.secretsmanager_backends", region)

    def _secret(self, region: str, name: str) -> Any:
        secrets = self._backend(region).secrets
        if name not in secrets:
            raise AwsError("ResourceNotFoundException", _NO_SECRET)
        return secrets[name]

    def _live(self, request: Request, *, writes: bool = False) -> Any:
        secret = self._secret(request.region, str(request.params.get("SecretId", "")))
        if secret.is_deleted():
            raise AwsError("InvalidRequestException", _DELETED)
        if writes and hasattr(secret, "source"):
            raise AwsError("InvalidParameterException", "Operation not permitted on a replica secret.")
        return secret

    def _get(self, request: Request) -> dict[str, Any]:
        secret = self._live(request)
        return _value(secret, _find(secret, request.params.get("VersionId"), request.params.get("VersionStage")))

    def _batch_get(self, request: Request) -> dict[str, Any] | Answer:
        if "SecretIdList" not in request.params:
            return self._moto(request)
        values, errors = [], []
        for name in request.params["SecretIdList"]:
            try:
                secret = self._secret(request.region, name)
                values.append(_value(secret, _find(secret, None, None)))
            except AwsError as error:
                errors.append({"SecretId": name, "ErrorCode": error.code, "Message": error.message})
        return {"SecretValues": values, "Errors": errors}

    def _put(self, request: Request) -> dict[str, Any]:
        secret = self._live(request, writes=True)
        stages = request.params.get("VersionStages") or [CURRENT]
        version = self._add_version(secret, request.params, stages)
        return {**_names(secret), "VersionId": version["version_id"], "VersionStages": version["version_stages"]}

    def _update(self, request: Request) -> dict[str, Any]:
        secret = self._live(request, writes=True)
        params = request.params
        secret.description = params.get("Description", secret.description)
        secret.kms_key_id = params.get("KmsKeyId", secret.kms_key_id)
        secret.last_changed_date = self._timeline.now()
        if "SecretString" not in params and "SecretBinary" not in params:
            return _names(secret)
        version = self._add_version(secret, params, [CURRENT])
        return {**_names(secret), "VersionId": version["version_id"]}

    def _add_version(self, secret: Any, params: Mapping[str, Any], stages: list[str]) -> dict[str, Any]:
        text, binary = params.get("SecretString"), params.get("SecretBinary")
        if not text and not binary:
            raise AwsError("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
        token = params.get("ClientRequestToken") or str(uuid.uuid4())
        if not 32 <= len(token) <= 64:
            raise AwsError("InvalidParameterException", "ClientRequestToken must be 32-64 characters long.")
        if kept := secret.versions.get(token):
            if (kept.get("secret_string"), kept.get("secret_binary")) == (text, binary):
                return dict(kept)
            message = f"You can't use ClientRequestToken {token} because that value is already in use for a version"
            raise AwsError("ResourceExistsException", f"{message} of secret {secret.arn}.")
        now = self._timeline.now()
        version: dict[str, Any] = {"version_id": token, "createdate": now, "version_stages": []}
        version.update({"secret_string": text} if text else {"secret_binary": binary})
        first = not secret.versions
        secret.versions[token] = version
        for stage in [*stages, CURRENT] if first and CURRENT not in stages else stages:
            _attach(secret, stage, token)
        secret.last_changed_date = now
        return version

    def _move_stage(self, request: Request) -> dict[str, Any]:
        secret = self._live(request, writes=True)
        stage = str(request.params.get("VersionStage"))
        source, target = request.params.get("RemoveFromVersionId"), request.params.get("MoveToVersionId")
        for version_id in (source, target):
            if version_id and version_id not in secret.versions:
                message = f"Secrets Manager can't find the specified secret version: {version_id}"
                raise AwsError("ResourceNotFoundException", message)
        _check_move(stage, _holder(secret, stage), source, target)
        if target:
            _attach(secret, stage, target)
        elif source:
            secret.versions[source]["version_stages"].remove(stage)
        secret.last_changed_date = self._timeline.now()
        return _names(secret)

    def fail_next(self, tell: Callable[[str, str], None]) -> None:
        """Have the next rotation's function fail: the version stays AWSPENDING, and `tell` is called with the region and the ARN."""
        self._failing = tell

    def _ending(self, region: str, secret: Any, token: str) -> Callable[[float], None]:
        tell, self._failing = self._failing, None
        return (lambda due: tell(region, secret.arn)) if tell else (lambda due: _attach(secret, CURRENT, token))

    def _rotate(self, request: Request) -> dict[str, Any]:
        secret = self._live(request, writes=True)
        if not secret.rotation_enabled:
            raise AwsError("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
        pending = _holder(secret, STAGED)
        token = str(request.params.get("ClientRequestToken") or uuid.uuid4())
        if pending not in (None, token, _holder(secret, CURRENT)):
            raise AwsError("InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.")
        (key,) = json.loads(secret.versions[_holder(secret, CURRENT)]["secret_string"])
        if token not in secret.versions:
            value = {"SecretString": json.dumps({key: secrets.token_hex(32)}), "ClientRequestToken": token}
            self._add_version(secret, value, [STAGED])
            self._timeline.at(self._timeline.now() + self._wait(ROTATION_SECONDS), self._ending(request.region, secret, token))
        return {**_names(secret), "VersionId": token}

    def _versions(self, request: Request) -> dict[str, Any]:
        secret = self._secret(request.region, str(request.params.get("SecretId", "")))
        every = bool(request.params.get("IncludeDeprecated"))
        versions = [
            {"VersionId": key, "VersionStages": version["version_stages"], "CreatedDate": version["createdate"]}
            for key, version in secret.versions.items()
            if every or version["version_stages"]
        ]
        return {**_names(secret), "Versions": versions}

    def _describe(self, request: Request) -> Mapping[str, Any] | Answer:
        answer = self._moto(request)
        return answer if answer.status != 200 else _only_labelled(answer.json())

    def _list(self, request: Request) -> Mapping[str, Any] | Answer:
        answer = self._moto(request)
        if answer.status != 200:
            return answer
        listed = answer.json()
        return {**listed, "SecretList": [_only_labelled(secret) for secret in listed["SecretList"]]}


def _only_labelled(described: dict[str, Any]) -> dict[str, Any]:
    for key in ("VersionIdsToStages", "SecretVersionsToStages"):
        if key in described:
            described[key] = {version: stages for version, stages in described[key].items() if stages}
    return described


def _names(secret: Any) -> dict[str, Any]:
    return {"ARN": secret.arn, "Name": secret.name}


def _value(secret: Any, version: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"VersionId": version["version_id"], "VersionStages": version["version_stages"]}
    kinds = {"SecretString": "secret_string", "SecretBinary": "secret_binary"}
    content = {shape: version[key] for shape, key in kinds.items() if version.get(key)}
    return {**_names(secret), **shown, "CreatedDate": version["createdate"], **content}


def _holder(secret: Any, stage: str) -> str | None:
    return next((key for key, version in secret.versions.items() if stage in version["version_stages"]), None)


def _find(secret: Any, version_id: str | None, stage: str | None) -> Mapping[str, Any]:
    wanted = version_id or _holder(secret, stage or CURRENT)
    version: Mapping[str, Any] | None = secret.versions.get(wanted)
    if version is None:
        what = f"VersionId: {version_id}" if version_id else f"staging label: {stage or CURRENT}"
        message = f"Secrets Manager can't find the specified secret value for {what}"
        raise AwsError("ResourceNotFoundException", message)
    if version_id and stage and stage not in version["version_stages"]:
        message = "You provided a VersionStage that is not associated to the provided VersionId."
        raise AwsError("InvalidRequestException", message)
    return version


def _check_move(stage: str, holder: str | None, source: str | None, target: str | None) -> None:
    if not source and not target:
        raise AwsError("InvalidParameterException", "You must give RemoveFromVersionId, MoveToVersionId or both.")
    if source and holder != source:
        message = f"Staging label {stage} is not currently attached to version {source}."
        raise AwsError("InvalidParameterException", message)
    if stage == CURRENT and not target:
        message = "You can only move staging label AWSCURRENT to a different secret version. It can't be removed."
        raise AwsError("InvalidParameterException", message)
    if target and holder not in (None, target, source):
        message = (
            f"The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version "
            f"{holder}, so you must explicitly reference that version in RemoveFromVersionId."
        )
        raise AwsError("InvalidParameterException", message)


def _attach(secret: Any, stage: str, version_id: str) -> None:
    holder = _holder(secret, stage)
    if holder == version_id:
        return
    if holder:
        secret.versions[holder]["version_stages"].remove(stage)
    secret.versions[version_id]["version_stages"].append(stage)
    if stage != CURRENT:
        return
    secret.set_default_version_id(version_id)
    if PREVIOUS in secret.versions[version_id]["version_stages"]:
        secret.versions[version_id]["version_stages"].remove(PREVIOUS)
    if holder:
        _attach(secret, PREVIOUS, holder)
