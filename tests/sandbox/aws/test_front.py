from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from stand_in import Aws

from opsctl.sandbox import tokens
from opsctl.sandbox.aws.wire import AwsError

Refused = Callable[..., str]


def environ(service: str, body: bytes = b"", **more: str) -> dict[str, Any]:
    credential = f"AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host"
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "HTTP_AUTHORIZATION": credential,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **more,
    }


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (
            environ("ecs", b"{}", HTTP_X_AMZ_TARGET="AmazonEC2ContainerServiceV20141113.UpdateService"),
            "ecs.UpdateService",
        ),
        (
            environ("rds", b"Action=DescribeDBClusters", CONTENT_TYPE="application/x-www-form-urlencoded"),
            "rds.DescribeDBClusters",
        ),
        (environ("rds-data", b"{}", PATH_INFO="/Execute"), "rds-data.ExecuteStatement"),
        (
            environ("lambda", REQUEST_METHOD="GET", PATH_INFO="/2015-03-31/functions/hh-lease/configuration"),
            "lambda.GetFunctionConfiguration",
        ),
        (
            environ(
                "monitoring",
                HTTP_SMITHY_PROTOCOL="rpc-v2-cbor",
                PATH_INFO="/service/GraniteServiceVersion20100801/operation/DescribeAlarms",
            ),
            "monitoring.DescribeAlarms",
        ),
    ],
)
def test_a_call_has_a_name_in_every_protocol(aws: Aws, asked: dict[str, Any], name: str) -> None:
    body = asked["wsgi.input"].getvalue()
    assert aws.part.operation(asked) == name
    assert asked["wsgi.input"].read() == body


def test_the_caller_is_the_one_on_call(aws: Aws) -> None:
    caller = aws.client("sts").get_caller_identity()
    assert (caller["Account"], caller["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:user/oncall")


def test_foreign_and_expired_keys_are_refused_in_each_protocol(aws: Aws, refused: Refused) -> None:
    foreign, expired = {"key": "AKIASOMEBODYELSE0000"}, {"key": "ASIAEXPIRED000000000"}
    assert refused(aws.client("sts", **foreign).get_caller_identity) == "InvalidClientTokenId"
    assert refused(aws.client("sts", **expired).get_caller_identity) == "ExpiredToken"
    assert refused(aws.client("ecs", **foreign).list_clusters) == "UnrecognizedClientException"
    assert refused(aws.client("ecs", **expired).list_clusters) == "ExpiredTokenException"
    assert refused(aws.client("cloudwatch", **expired).describe_alarms) == "ExpiredTokenException"
    assert refused(aws.client("lambda", **expired).list_functions) == "ExpiredTokenException"


def test_a_lent_role_may_call(aws: Aws) -> None:
    lent = aws.client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/reader", RoleSessionName="test")
    key = lent["Credentials"]["AccessKeyId"]
    assert aws.client("ecs", key=key).list_clusters()["clusterArns"]


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("rds", "describe_db_major_engine_versions"),
        ("shield", "describe_attack_statistics"),
        ("sesv2", "list_import_jobs"),
        ("health", "describe_events"),
    ],
)
def test_a_call_that_is_not_served_is_an_error_of_aws(aws: Aws, refused: Refused, service: str, method: str) -> None:
    assert refused(getattr(aws.client(service), method)) == "NotImplemented"


def test_the_cache_has_the_endpoint_of_the_real_server_only_where_asked(aws: Aws) -> None:
    cache = aws.client("elasticache")
    (shown,) = cache.describe_cache_clusters(ShowCacheNodeInfo=True)["CacheClusters"]
    assert shown["CacheClusterId"] == "safawinet-redis"
    assert shown["CacheNodes"][0]["Endpoint"] == {"Address": "127.0.0.1", "Port": 6999}
    assert not cache.describe_cache_clusters()["CacheClusters"][0].get("CacheNodes")


def test_the_administrators_token_is_signed_with_the_seeded_key(aws: Aws) -> None:
    facts = aws.world.facts
    access = tokens.verify(facts["admin_token"], facts["jwt_secret"], time.time() + 29 * 86_400)
    assert (access.user_id, access.role) == (1, "admin")


def test_other_parts_read_what_is_current(aws: Aws) -> None:
    name = "/hh/prod/hubspot/token"
    aws.client("secretsmanager", "us-west-2").put_secret_value(SecretId=name, SecretString='{"token": "new"}')
    assert aws.part.secret("us-west-2", name) == '{"token": "new"}'
    assert aws.part.function_environment("us-west-2", "hh-authz").keys() >= {"EDGE_SHARED_SECRET"}
    with pytest.raises(AwsError):
        aws.part.secret("us-west-2", "nobody")
    with pytest.raises(AwsError):
        aws.part.function_environment("us-west-2", "nobody")


def test_the_seeded_rest_is_there(aws: Aws) -> None:
    queues = aws.client("sqs").list_queues()["QueueUrls"]
    assert [url.rpartition("/")[2] for url in queues] == ["ses-notifications"]
    assert {user["UserName"] for user in aws.client("iam").list_users()["Users"]} >= {"oncall", "deploy"}
    assert len(aws.client("sns").list_topics()["Topics"]) == 1
    assert aws.client("ses").get_send_statistics()["SendDataPoints"]
