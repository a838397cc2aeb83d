"""IAM's policy simulator and permissions boundaries, which moto lacks.

Facts: an explicit deny beats every allow; a boundary has to allow too; a condition on a key that isn't given is missed, and told; a missing
key fails a plain operator and passes one that ends in IfExists (AWS, "Policy evaluation logic", "SimulatePrincipalPolicy").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from opsctl.sandbox.aws.wire import Answer, AwsError, Request, query_answer

NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
Statement = dict[str, Any]


class Simulator:
    """The calls of IAM that are answered here, over moto's own users and policies."""

    def __init__(self, backend: Callable[[], Any], moto: Callable[[Request], Answer]) -> None:
        self._backend = backend
        self._moto = moto
        self._boundaries: dict[str, str] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "SimulatePrincipalPolicy": self._simulate,
            "PutUserPermissionsBoundary": self._bound,
            "DeleteUserPermissionsBoundary": self._unbound,
            "GetAccountAuthorizationDetails": self._details,
        }

    def _simulate(self, request: Request) -> Answer:
        user = self._user(str(request.params.get("PolicySourceArn", "")).rpartition("/")[2])
        own, boundary = self._statements_of(user), self._boundary(user)
        context = _context(request.params)
        results = "".join(
            self._result(action, resource, own, boundary, context)
            for action in _members(request.params, "ActionNames")
            for resource in _members(request.params, "ResourceArns") or ["*"]
        )
        return query_answer(request, NAMESPACE, f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>")

    def _result(
        self, action: str, resource: str, own: list[Statement], boundary: list[Statement] | None, context: Mapping[str, str]
    ) -> str:
        missing: set[str] = set()
        decision = _decided(own, action, resource, context, missing)
        if boundary is not None and decision == "allowed":
            decision = _decided(boundary, action, resource, context, missing)
        names = "".join(f"<member>{escape(name)}</member>" for name in sorted(missing))
        return (
            f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>{escape(resource)}</EvalResourceName>"
            f"<EvalDecision>{decision}</EvalDecision><MissingContextValues>{names}</MissingContextValues></member>"
        )

    def _bound(self, request: Request) -> Answer:
        user = self._user(str(request.params.get("UserName")))
        arn = str(request.params.get("PermissionsBoundary"))
        self._policy(arn)
        self._boundaries[user.name] = arn
        return query_answer(request, NAMESPACE, "")

    def _unbound(self, request: Request) -> Answer:
        self._boundaries.pop(self._user(str(request.params.get("UserName"))).name, None)
        return query_answer(request, NAMESPACE, "")

    def _details(self, request: Request) -> Answer:
        """moto's listing, and each user's boundary in it."""
        answer = self._moto(request)
        body = answer.body.decode()
        for name, arn in self._boundaries.items():
            kind = "<PermissionsBoundaryType>PermissionsBoundaryPolicy</PermissionsBoundaryType>"
            bound = f"<PermissionsBoundary>{kind}<PermissionsBoundaryArn>{arn}</PermissionsBoundaryArn></PermissionsBoundary>"
            body = body.replace(f"<UserName>{name}</UserName>", f"<UserName>{name}</UserName>{bound}")
        return Answer(answer.status, answer.headers, body.encode())

    def _user(self, name: str) -> Any:
        found = next((user for user in self._backend().users.values() if user.name == name), None)
        if found is None:
            raise AwsError("NoSuchEntity", f"The user with name {name} cannot be found.", 404)
        return found

    def _policy(self, arn: str) -> list[Statement]:
        found = self._backend().managed_policies.get(arn)
        if found is None:
            raise AwsError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
        return _statements(next(version.document for version in found.versions if version.is_default))

    def _boundary(self, user: Any) -> list[Statement] | None:
        return self._policy(self._boundaries[user.name]) if user.name in self._boundaries else None

    def _statements_of(self, user: Any) -> list[Statement]:
        backend = self._backend()
        groups = [group for group in backend.groups.values() if any(each.name == user.name for each in group.users)]
        found: list[Statement] = []
        for holder in (user, *groups):
            for document in holder.policies.values():
                found += _statements(document)
            for arn in holder.managed_policies:
                found += self._policy(arn)
        return found


def _statements(document: Any) -> list[Statement]:
    read = json.loads(document) if isinstance(document, str) else document
    found = read.get("Statement", [])
    return found if isinstance(found, list) else [found]


def _decided(statements: list[Statement], action: str, resource: str, context: Mapping[str, str], missing: set[str]) -> str:
    effects = {each["Effect"] for each in statements if _meets(each, action, resource) and _holds(each, context, missing)}
    return "explicitDeny" if "Deny" in effects else "allowed" if "Allow" in effects else "implicitDeny"


def _meets(statement: Statement, action: str, resource: str) -> bool:
    acts = _matches(statement, "Action", action.lower(), str.lower)
    return acts and _matches(statement, "Resource", resource, str)


def _matches(statement: Statement, what: str, value: str, fold: Callable[[str], str]) -> bool:
    negated = f"Not{what}" in statement
    given = statement.get(f"Not{what}" if negated else what, [])
    patterns = given if isinstance(given, list) else [given]
    return negated != any(re.fullmatch(_pattern(fold(each)), value) for each in patterns)


def _pattern(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _holds(statement: Statement, context: Mapping[str, str], missing: set[str]) -> bool:
    """Whether every condition holds; a key that wasn't given is noted."""
    held = True
    for operator, keys in statement.get("Condition", {}).items():
        for key, wanted in keys.items():
            name = key.lower()
            if name not in context:
                missing.add(key)
                held = held and operator.endswith("IfExists")
                continue
            values = wanted if isinstance(wanted, list) else [wanted]
            found = any(re.fullmatch(_pattern(str(each).lower()), context[name].lower()) for each in values)
            held = held and found != ("Not" in operator)
    return held


def _members(params: Mapping[str, Any], name: str) -> list[str]:
    return list(_numbered(params, f"{name}.member."))


def _numbered(params: Mapping[str, Any], prefix: str) -> Iterator[str]:
    number = 1
    while (value := params.get(f"{prefix}{number}")) is not None:
        yield str(value)
        number += 1


def _context(params: Mapping[str, Any]) -> dict[str, str]:
    found, number = {}, 1
    while name := params.get(f"ContextEntries.member.{number}.ContextKeyName"):
        values = list(_numbered(params, f"ContextEntries.member.{number}.ContextKeyValues.member."))
        found[str(name).lower()] = values[0] if values else ""
        number += 1
    return found
