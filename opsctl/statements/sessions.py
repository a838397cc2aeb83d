"""Statements over the table of sessions that [sessions] names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opsctl.settings import SessionSettings

OF_USERS = "{user} IN (SELECT {user} FROM jsonb_populate_recordset(NULL::{table}, %(users)s::jsonb))"
"""The condition for the sessions of `users`: they travel as JSON, so that the table's own type casts them in both drivers."""
DELETE_ALL = "DELETE FROM {table}"
DELETE = f"{DELETE_ALL} WHERE {OF_USERS}"


def names(settings: SessionSettings) -> dict[str, str]:
    """The identifiers of these statements."""
    return {"table": settings.table, "user": settings.user_column}


def users_json(settings: SessionSettings, users: Sequence[str]) -> str:
    """The value of `users`, as JSON."""
    return json.dumps([{settings.user_column: each} for each in users])
