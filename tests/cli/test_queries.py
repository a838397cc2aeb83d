"""config/queries: what a query file may say, and where it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsctl.cli import queries
from opsctl.config import Environment
from opsctl.errors import ConfigurationError
from opsctl.settings import AwsSettings, FunctionSettings, Settings

GROUP = "/aws/lambda/hh-lease"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment whose file is in an empty folder."""
    functions = {"hh-lease": FunctionSettings(name="hh-lease", region="us-west-2", log_group=GROUP)}
    aws = AwsSettings(account="123456789012", region="us-east-1")
    settings = Settings(title="test", aws=aws, functions=functions, log_groups={"api": "/ecs/api"})
    return Environment("test", tmp_path / "test.toml", "", settings)


def write(environment: Environment, name: str, text: str) -> None:
    folder = environment.path.parent / "queries"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text(text)


@pytest.mark.parametrize(("name", "plot"), [("lease-outcomes", "count()"), ("lease-errors", None)])
def test_the_shipped_ones_are_the_runbooks(environment: Environment, name: str, plot: str | None) -> None:
    found = queries.load(environment, name)
    assert found.groups == [(GROUP, "us-west-2")]
    assert found.plot == plot
    assert found.text.startswith("fields @timestamp, type")
    assert "#" not in found.text


def test_one_beside_the_environments_file_comes_first(environment: Environment) -> None:
    write(
        environment,
        "lease-errors",
        "# title: Ours\n# log-groups: api /aws/other\n# functions: hh-lease\n\nfields @message\n  # a note\n| limit 5\n",
    )
    found = queries.load(environment, "lease-errors")
    assert (found.title, found.text) == ("Ours", "fields @message\n| limit 5")
    assert found.groups == [(GROUP, "us-west-2"), ("/ecs/api", None), ("/aws/other", None)]


def test_an_unknown_name_tells_the_known_ones(environment: Environment) -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown query 'nope'. Known queries: .*lease-errors, lease-outcomes"):
        queries.load(environment, "nope")


@pytest.mark.parametrize("name", ["../test", "a/b", "", "lease-errors.txt"])
def test_a_name_is_no_path(environment: Environment, name: str) -> None:
    (environment.path.parent / "test.txt").write_text("# log-groups: api\nfields @message")
    with pytest.raises(ConfigurationError, match="Unknown query"):
        queries.load(environment, name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fields @message", "names no log group"),
        ("# log-groups: nope\nfields @message", "Unknown log group 'nope' in test. Known groups: api, hh-lease"),
        ("# functions: nope\nfields @message", "nope"),
        ("# log-groups: api\n# nothing else\n", "has no query in it"),
    ],
)
def test_a_file_that_is_no_query(environment: Environment, text: str, said: str) -> None:
    write(environment, "broken", text)
    with pytest.raises(ConfigurationError, match=said):
        queries.load(environment, "broken")


def test_a_group_by_what_configuration_calls_it_or_by_its_full_name(environment: Environment) -> None:
    assert queries.group(environment, "hh-lease") == (GROUP, "us-west-2")
    assert queries.group(environment, GROUP) == (GROUP, "us-west-2")
    assert queries.group(environment, "api") == ("/ecs/api", None)
    assert queries.group(environment, "/aws/lambda/other") == ("/aws/lambda/other", None)


def test_a_file_that_is_no_text_is_said(environment: Environment) -> None:
    write(environment, "latin", "")
    (environment.path.parent / "queries" / "latin.txt").write_bytes(b"# log-groups: api\nfields @message # caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.txt can't be read as text"):
        queries.load(environment, "latin")
