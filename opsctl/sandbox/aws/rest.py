"""Which operation a REST request means: read from botocore's models, one service at a time and only when asked."""

from __future__ import annotations

import re
from functools import cache

# Signing names that differ from the name of botocore's model.
_MODEL_OF = {"ses": "sesv2", "email": "sesv2"}


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    from botocore.exceptions import UnknownServiceError
    from botocore.loaders import create_loader

    try:
        model = create_loader().load_service_model(_MODEL_OF.get(service, service), "service-2")
    except UnknownServiceError:
        return []
    found = []
    for name, operation in model["operations"].items():
        http = operation["http"]
        found.append((http["method"], _pattern(http["requestUri"].partition("?")[0]), name))
    return sorted(found, key=lambda route: route[1].pattern.count("(?P"))


def _pattern(uri: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(\+?)\}", uri.rstrip("/"))
    text = re.escape(parts[0])
    for name, greedy, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(literal)
    return re.compile(text + "/?$")


def find_operation(service: str, method: str, path: str) -> tuple[str, dict[str, str]]:
    """The operation's name and the parameters in its path; an empty name where none fits."""
    if not service:
        return "", {}
    for verb, pattern, name in _routes(service):
        if verb == method and (match := pattern.match(path)):
            return name, match.groupdict()
    return "", {}
