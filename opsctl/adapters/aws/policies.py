"""Evaluation of IAM policy documents. Conditions are not evaluated.

`allows` has no false negatives: an Allow with a condition counts, a Deny with one doesn't. `certainly_allows` has no false positives: an
Allow with a condition doesn't count, a Deny with one does. IAM's wildcards are `*` and `?`; action names are case-insensitive.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator
from typing import Any

Document = dict[str, Any]

ANY = "*"
TAKES_ALL = ("iam:AttachUserPolicy", "iam:PutUserPolicy")
"""Each of these actions on oneself gives every other permission."""


def allows(documents: Iterable[Document], action: str, resource: str) -> bool:
    """Whether some Allow covers `action` on `resource`, and no Deny without a condition does."""
    found = [each for document in documents for each in _statements(document) if _covers(each, action, resource)]
    denied = any(each["Effect"] == "Deny" and not each.get("Condition") for each in found)
    return not denied and any(each["Effect"] == "Allow" for each in found)


def certainly_allows(documents: Iterable[Document], action: str, resource: str) -> bool:
    """Whether an Allow without a condition covers `action` on `resource`, and no Deny at all does."""
    found = [each for document in documents for each in _statements(document) if _covers(each, action, resource)]
    denied = any(each["Effect"] == "Deny" for each in found)
    return not denied and any(each["Effect"] == "Allow" and not each.get("Condition") for each in found)


def administers(documents: Collection[Document], arn: str) -> bool:
    """Whether they allow the user `arn` to get any permission: AdministratorAccess, IAMFullAccess and their like."""
    return any(allows(documents, action, arn) for action in TAKES_ALL)


def denies_all(documents: Iterable[Document]) -> bool:
    """Whether one of them denies everything."""
    everything = ("Action", "Resource")
    return any(
        each["Effect"] == "Deny" and not each.get("Condition") and all(ANY in _as_list(each.get(what)) for what in everything)
        for document in documents
        for each in _statements(document)
    )


def trusts(trust: Document, arn: str, account: str) -> str:
    """How a role's trust policy lets a user assume it: `by name`, `by account` (the user's own policies decide), or not: empty."""
    whole = {account, f"arn:{arn.split(':')[1]}:iam::{account}:root"}
    found = ""
    for each in _statements(trust):
        if each["Effect"] != "Allow" or not any(_action_matches("sts:AssumeRole", one) for one in _as_list(each.get("Action"))):
            continue
        principal = each.get("Principal", {})
        named = [ANY] if principal == ANY else _as_list(principal.get("AWS"))
        if arn in named or ANY in named:
            return "by name"
        if whole & set(named):
            found = "by account"
    return found


def _covers(statement: Document, action: str, resource: str) -> bool:
    if "NotAction" in statement:
        acts = not any(_action_matches(action, one) for one in _as_list(statement["NotAction"]))
    else:
        acts = any(_action_matches(action, one) for one in _as_list(statement.get("Action")))
    if "NotResource" in statement:
        return acts and not any(fnmatch.fnmatchcase(resource, one) for one in _as_list(statement["NotResource"]))
    return acts and any(fnmatch.fnmatchcase(resource, one) for one in _as_list(statement.get("Resource")))


def _statements(document: Document) -> Iterator[Document]:
    yield from _as_list(document.get("Statement"))


def _action_matches(action: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(action.lower(), pattern.lower())


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
