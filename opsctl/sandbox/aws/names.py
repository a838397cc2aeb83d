"""The names of the pretended account that several services share."""

from __future__ import annotations

ACCOUNT = "123456789012"
REGION = "us-east-1"
HH_REGION = "us-west-2"
CLUSTER = "safawinet-prod"
LOAD_BALANCER = "app/safawinet-prod/50dc6c495c0c9188"
TARGET_GROUP = "targetgroup/safawinet-api-prod/73e2d6bc24d8a067"
"""As CloudWatch writes them in its dimensions."""
