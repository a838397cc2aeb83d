from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from opsctl.cli.command import OpsGroup
from opsctl.engine.options import Options
from opsctl.errors import ConfigurationError
from opsctl.playbook import lines
from opsctl.playbook.schema import PlaybookStep
from opsctl.redaction import clean_text

anything = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(anything)
@example("-x")
@example("--times=9")
@example("--yes")
@example("{value}{name}")
@example("$(rm -rf /)")
@example("two\nlines")
@example("' \"")
def test_a_value_stays_one_argument_whatever_is_in_it(tree: OpsGroup, value: str) -> None:
    for line in ("put name {value}", "put name '{value}' --times 1", "put {value} {value}"):
        params = lines.StepParser().given(PlaybookStep(run=line), {"value": value}).params
        assert params["value"] == value
        assert params["times"] == 1
        assert not params["yes"]
        assert params["name"] in ("name", value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(anything)
@example("--yes")
def test_a_value_inside_an_argument_stays_inside(tree: OpsGroup, value: str) -> None:
    params = lines.StepParser().given(PlaybookStep(run="put name 'of {value}: {value}' --reason {value}"), {"value": value}).params
    assert params["value"] == f"of {value}: {value}"
    assert params["reason"] == clean_text(value), "a reason is kept cleaned"


def test_a_values_type_is_checked(tree: OpsGroup) -> None:
    assert lines.StepParser().given(PlaybookStep(run="put a b --times {n}"), {"n": "7"}).params["times"] == 7
    with pytest.raises(ConfigurationError, match="not a valid integer"):
        lines.StepParser().given(PlaybookStep(run="put a b --times {n}"), {"n": "many"})


def test_a_line_may_narrow_a_bound_and_lengthen_a_wait(tree: OpsGroup) -> None:
    parsed = lines.StepParser().given(PlaybookStep(run="put a b --max-affected 10 --timeout 5m"), {})
    own = lines.options(parsed, Options(max_affected=7, yes=True))
    assert (own.max_affected, own.timeout, own.yes) == (7, timedelta(minutes=5), True)
    assert lines.options(parsed, Options(max_affected=70)).max_affected == 10
