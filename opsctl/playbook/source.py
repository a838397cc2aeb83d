"""Read YAML with the line of each value. Every scalar stays text, so `yes` is not a boolean."""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import Struct

from opsctl.errors import ConfigurationError

LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""The loader of libyaml, where PyYAML has it: ten times faster."""


class Problem(Struct, frozen=True, kw_only=True):
    """A problem in a playbook, and its line."""

    line: int
    what: str


class YamlSource:
    """A YAML file's content: plain dicts, lists and strings in `value`, and the first line of each path.

    Paths are msgspec's: `$.steps[3].when`. Raises ConfigurationError for invalid YAML, a duplicate key or an alias.
    """

    def __init__(self, text: str, name: str) -> None:
        self._lines: dict[str, int] = {}
        self._name = name
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=LOADER)):
                raise ConfigurationError(f"{name} uses a YAML alias; playbooks don't support aliases.", "Write the value out.")
            node = yaml.compose(text, Loader=LOADER)
        except yaml.YAMLError as cause:
            raise ConfigurationError(f"{name} is not valid YAML: {' '.join(str(cause).split())}.", "Fix that line.") from cause
        except RecursionError as cause:
            raise ConfigurationError(f"{name} is nested too deeply.", "Use fewer levels.") from cause
        self.value: Any = self._build_root(node) if node is not None else {}

    def _build_root(self, node: yaml.Node) -> Any:
        try:
            return self._build(node, "$")
        except RecursionError as cause:
            raise ConfigurationError(f"{self._name} is nested too deeply.", "Use fewer levels.") from cause

    def _build(self, node: yaml.Node, path: str) -> Any:
        self._lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        return node.value

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in built:
                line = key.start_mark.line + 1
                word = f"{key.value!r} twice" if isinstance(key, yaml.ScalarNode) else "a key that is not a word"
                raise ConfigurationError(f"{self._name}:{line} has {word}.", "Fix that line.")
            built[key.value] = self._build(value, f"{path}.{key.value}")
            self._lines[f"{path}.{key.value}"] = key.start_mark.line + 1
        return built

    def line(self, path: str) -> int:
        """The first line of `path`, or of the nearest value that contains it."""
        while path not in self._lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._lines.get(path, 1)
