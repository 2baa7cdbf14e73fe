"""Cases of the protocol that are too large to be searched to their end."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.functions import Functions, functions
from tests.model.machine import Protocol

IS_WHOLE = os.environ.get("FONDATION_MODEL") == "whole"

QUICK = settings(
    max_examples=2000 if IS_WHOLE else 200,
    stateful_step_count=80 if IS_WHOLE else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FIND_ONE = settings(
    QUICK,
    max_examples=400,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def machine(real: Functions) -> type[Protocol]:
    """Return the machine for these functions."""
    return type("Protocol", (Protocol,), {"functions": real})


@pytest.mark.timeout(3000 if IS_WHOLE else 120)
def test_the_functions_do_what_the_protocol_says() -> None:
    """Up to five workers, any number of jobs, any order of calls."""
    with functions() as real:
        run_state_machine_as_test(machine(real), settings=QUICK)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", ["release spends", "a superseded token claims anew"])
def test_a_bug_is_found(bug: str) -> None:
    """Otherwise the test above would show nothing."""
    with (
        functions(bug) as real,
        pytest.raises((AssertionError, pytest.fail.Exception)),
    ):
        run_state_machine_as_test(machine(real), settings=FIND_ONE)
