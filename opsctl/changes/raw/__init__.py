"""The AWS, psql and curl commands of generated scripts, and where their credentials come from."""

from __future__ import annotations

from opsctl.changes.raw.aws import ID, as_reviewed, asked, aws, id_of, learn, wait_until
from opsctl.changes.raw.database import database, sql
from opsctl.changes.raw.hubspot import hubspot
from opsctl.changes.raw.redis import unlink
from opsctl.changes.raw.values import IS, ITS, ITS_FIRST, MEMBER, ONE_LINE_END, SET_MEMBER, credential, given_value, value_of
from opsctl.changes.raw.web import administrator, bearer, curl, path

__all__ = [
    "ID",
    "IS",
    "ITS",
    "ITS_FIRST",
    "MEMBER",
    "ONE_LINE_END",
    "SET_MEMBER",
    "administrator",
    "as_reviewed",
    "asked",
    "aws",
    "bearer",
    "credential",
    "curl",
    "database",
    "given_value",
    "hubspot",
    "id_of",
    "learn",
    "path",
    "sql",
    "unlink",
    "value_of",
    "wait_until",
]
