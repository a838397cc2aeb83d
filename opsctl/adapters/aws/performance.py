"""Amazon RDS Performance Insights: the statements with the highest load."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.adapters.sql_redaction import brief

LOAD = "db.load.avg"
"""Average active sessions; above the number of vCPUs, sessions wait for CPU."""
STATEMENT = "db.sql_tokenized"
PERIOD = 60


class StatementLoad(Struct, frozen=True):
    """A statement without literals, and its load."""

    statement: str
    load: float


class Performance(Adapter):
    """Amazon RDS Performance Insights in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def load(self, resource: str, since: datetime, until: datetime, region: str | None = None) -> list[float]:
        """The load of each minute, oldest first; minutes without a value are left out."""
        answer = self._aws.call(
            "pi",
            "get_resource_metrics",
            region=region,
            ServiceType="RDS",
            Identifier=resource,
            MetricQueries=[{"Metric": LOAD}],
            StartTime=since,
            EndTime=until,
            PeriodInSeconds=PERIOD,
        )
        return [point["Value"] for each in answer["MetricList"] for point in each["DataPoints"] if "Value" in point]

    def top(self, resource: str, since: datetime, until: datetime, most: int, region: str | None = None) -> list[StatementLoad]:
        """The statements with the highest load, the heaviest first; `most` is at most 25."""
        answer = self._aws.call(
            "pi",
            "describe_dimension_keys",
            region=region,
            ServiceType="RDS",
            Identifier=resource,
            Metric=LOAD,
            StartTime=since,
            EndTime=until,
            GroupBy={"Group": STATEMENT, "Dimensions": [f"{STATEMENT}.id", f"{STATEMENT}.statement"], "Limit": min(most, 25)},
        )
        return [StatementLoad(brief(key["Dimensions"].get(f"{STATEMENT}.statement", "")), float(key["Total"])) for key in answer["Keys"]]
