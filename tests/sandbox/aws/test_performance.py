"""Performance Insights' stand-in, by boto3: on where it is on, and refused as AWS refuses it elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stand_in import CLUSTER, Aws

NOW = datetime.now(UTC)
HOUR = {"StartTime": NOW - timedelta(hours=1), "EndTime": NOW}
LOAD = {"ServiceType": "RDS", "Metric": "db.load.avg", **HOUR}
TOKENIZED = {"Group": "db.sql_tokenized", "Limit": 3}


def resources(aws: Aws) -> dict[str, tuple[str, bool]]:
    instances = aws.client("rds").describe_db_instances()["DBInstances"]
    return {i["DBInstanceIdentifier"]: (i["DbiResourceId"], i["PerformanceInsightsEnabled"]) for i in instances}


def test_it_is_on_for_the_writer_alone_and_each_has_its_own_id(aws: Aws) -> None:
    found = resources(aws)
    assert [name for name, (_, on) in found.items() if on] == [CLUSTER]
    assert len({resource for resource, _ in found.values()}) == len(found) >= 3


def test_the_heaviest_statements_come_first(aws: Aws) -> None:
    resource, _ = resources(aws)[CLUSTER]
    keys = aws.client("pi").describe_dimension_keys(Identifier=resource, GroupBy=TOKENIZED, **LOAD)["Keys"]
    assert len(keys) == 3
    assert [key["Total"] for key in keys] == sorted((key["Total"] for key in keys), reverse=True)
    assert all(key["Dimensions"]["db.sql_tokenized.statement"] for key in keys)


def test_the_load_has_a_value_for_each_minute(aws: Aws) -> None:
    resource, _ = resources(aws)[CLUSTER]
    asked = {"ServiceType": "RDS", "Identifier": resource, "MetricQueries": [{"Metric": "db.load.avg"}], "PeriodInSeconds": 60, **HOUR}
    (metric,) = aws.client("pi").get_resource_metrics(**asked)["MetricList"]
    assert len(metric["DataPoints"]) == 60
    assert all(point["Value"] > 0 for point in metric["DataPoints"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"Identifier": "db-NOSUCH"},
        {"StartTime": NOW, "EndTime": NOW - timedelta(hours=1)},
        {"GroupBy": {"Group": "db.sql_tokenized", "Limit": 26}},
        {"Metric": "db.wrong.avg"},
    ],
)
def test_what_aws_refuses_is_refused(aws: Aws, refused: Any, wrong: dict[str, Any]) -> None:
    resource, _ = resources(aws)[CLUSTER]
    asked = {"Identifier": resource, "GroupBy": TOKENIZED, **LOAD, **wrong}
    assert refused(aws.client("pi").describe_dimension_keys, **asked) in ("InvalidArgumentException", "ParamValidation")


def test_an_instance_where_it_is_off_is_refused(aws: Aws, refused: Any) -> None:
    resource, _ = resources(aws)[f"{CLUSTER}-2"]
    code = refused(aws.client("pi").describe_dimension_keys, Identifier=resource, GroupBy=TOKENIZED, **LOAD)
    assert code == "InvalidArgumentException"


def test_rds_counts_connections_by_instance(aws: Aws) -> None:
    aws.part.measure_connections(97)
    points = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="DatabaseConnections",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": CLUSTER}],
        StartTime=datetime.fromtimestamp(aws.clock() - 1_800, UTC),
        EndTime=datetime.fromtimestamp(aws.clock() + 60, UTC),
        Period=60,
        Statistics=["Maximum"],
    )["Datapoints"]
    assert max(points, key=lambda point: point["Timestamp"])["Maximum"] == 97
