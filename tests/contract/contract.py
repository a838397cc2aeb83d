"""Holds calls against an OpenAPI 3.1 description: requests, answers and headers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from portal import Call


class Broken(AssertionError):
    """Raised when a call isn't as the description says."""


class Contract:
    """One description. `met` is every operation and status that a checked call has had."""

    def __init__(self, path: Path) -> None:
        self._whole = yaml.safe_load(path.read_text())
        self.met: set[tuple[str, str, str]] = set()

    def operations(self) -> set[tuple[str, str, str]]:
        """Every method, path and status that is described."""
        return {(m, p, status) for m, p, operation in self._operations() for status in operation["responses"]}

    def check(self, call: Call) -> None:
        """Raise Broken unless the request and its answer are as described."""
        template, operation, shared, values = self._operation(call)
        self._check_parameters(call, [*shared, *operation.get("parameters", [])], values)
        if not re.fullmatch(r"Bearer \S+", call.headers.get("Authorization", "")):
            raise Broken(f"{call.method} {call.path} carries no token")
        self._check_body(call, operation)
        described = operation["responses"].get(str(call.status))
        if described is None:
            raise Broken(f"{call.method} {template} is not described to answer {call.status}")
        self._check_answer(call, self.resolved(described))
        self.met.add((call.method, template, str(call.status)))

    def check_webhook(self, name: str, headers: Mapping[str, str], body: Any) -> None:
        """Raise Broken unless a webhook's request is as described; the names of `headers` are in lower case."""
        operation = self._whole["webhooks"][name]["post"]
        for parameter in operation["parameters"]:
            self.valid(headers.get(parameter["name"].lower()), parameter["schema"], parameter["name"])
        self.valid(body, self._schema(operation["requestBody"]), name)

    def resolved(self, described: Any) -> Any:
        """What a reference within the description leads to."""
        while "$ref" in described:
            found = self._whole
            for part in described["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            described = found
        return described

    def valid(self, value: Any, schema: Any, what: str) -> None:
        """Raise Broken unless `value` is as `schema` says; references lead into the whole description."""
        rooted = {"allOf": [schema], "components": self._whole["components"]}
        try:
            Draft202012Validator(rooted).validate(value)
        except ValidationError as error:
            where = "/".join(str(part) for part in error.absolute_path)
            raise Broken(f"{what} at {where or 'its root'}: {error.message}") from None

    def _operations(self) -> Iterator[tuple[str, str, Any]]:
        for path, item in self._whole["paths"].items():
            for method in ("get", "patch", "post"):
                if method in item:
                    yield method.upper(), path, item[method]

    def _operation(self, call: Call) -> tuple[str, Any, list[Any], dict[str, str]]:
        # A path without a template goes before one with it.
        for path, item in sorted(self._whole["paths"].items(), key=lambda each: "{" in each[0]):
            matched = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path), call.path)
            if matched and call.method.lower() in item:
                return path, item[call.method.lower()], item.get("parameters", []), matched.groupdict()
        raise Broken(f"{call.method} {call.path} is not described")

    def _check_parameters(self, call: Call, parameters: list[Any], values: dict[str, str]) -> None:
        known = {parameter["name"]: parameter for parameter in parameters if parameter["in"] == "query"}
        for name, value in call.query.items():
            if name not in known:
                raise Broken(f"{call.method} {call.path} is asked with {name}, which is not described")
            self.valid(value, known[name]["schema"], name)
        for parameter in parameters:
            if parameter["in"] == "path":
                self.valid(values[parameter["name"]], parameter["schema"], parameter["name"])

    def _check_body(self, call: Call, operation: Any) -> None:
        described = operation.get("requestBody")
        if described is None:
            if call.body is not None:
                raise Broken(f"{call.method} {call.path} is not described to have a body")
            return
        if call.headers.get("Content-Type") != "application/json":
            raise Broken(f"{call.method} {call.path} does not say that it sends JSON")
        self.valid(call.body, self._schema(described), f"the body of {call.method} {call.path}")

    def _check_answer(self, call: Call, described: Any) -> None:
        what = f"the answer {call.status} to {call.method} {call.path}"
        if call.answer_headers.get("Content-Type") != "application/json":
            raise Broken(f"{what} does not say that it is JSON")
        for name, header in described.get("headers", {}).items():
            self.valid(call.answer_headers.get(name), self.resolved(header)["schema"], f"{name} of {what}")
        self.valid(call.answer, self._schema(described), what)

    def _schema(self, described: Any) -> Any:
        return described["content"]["application/json"]["schema"]
