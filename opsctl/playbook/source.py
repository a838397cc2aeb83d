"""YAML read so that every scalar stays the text that was written (`yes` is no boolean), with the line of each value."""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import Struct

from opsctl.errors import ConfigurationError

LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml's, where PyYAML was built with it: ten times faster."""


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a playbook, and the line where it is."""

    line: int
    what: str


class YamlSource:
    """A YAML file's content as plain dicts, lists and strings in `value`, and the line where each path begins.

    Paths are msgspec's: `$.steps[3].when`. Raises ConfigurationError for what is not YAML, says a key twice or uses aliases.
    """

    def __init__(self, text: str, name: str) -> None:
        self._lines: dict[str, int] = {}
        self._name = name
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=LOADER)):
                raise ConfigurationError(f"{name} uses a YAML alias, which a playbook doesn't know.", "Write it out.")
            node = yaml.compose(text, Loader=LOADER)
        except yaml.YAMLError as cause:
            raise ConfigurationError(f"{name} is not YAML: {' '.join(str(cause).split())}.", "Mend that line.") from cause
        except RecursionError as cause:
            raise ConfigurationError(f"{name} is nested too deeply.", "Write it flatter.") from cause
        self.value: Any = self._build_root(node) if node is not None else {}

    def _build_root(self, node: yaml.Node) -> Any:
        try:
            return self._build(node, "$")
        except RecursionError as cause:
            raise ConfigurationError(f"{self._name} is nested too deeply.", "Write it flatter.") from cause

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
                word = f"{key.value!r} twice" if isinstance(key, yaml.ScalarNode) else "a key that is no word"
                raise ConfigurationError(f"{self._name}:{line} says {word}.", "Mend that line.")
            built[key.value] = self._build(value, f"{path}.{key.value}")
            self._lines[f"{path}.{key.value}"] = key.start_mark.line + 1
        return built

    def line(self, path: str) -> int:
        """The line where `path`, or the nearest thing around it, begins."""
        while path not in self._lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._lines.get(path, 1)
