"""The names of the pretended account that several services share."""

from __future__ import annotations

ACCOUNT = "123456789012"
REGION = "us-east-1"
HH_REGION = "us-west-2"
CLUSTER = "safawinet-prod"
