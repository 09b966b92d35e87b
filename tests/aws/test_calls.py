"""P3: what a request costs in calls to AWS, counted on their way to the emulators (`docs/performance.md`)."""

import pytest

from bench import calls
from bench.deployment import deployed

CASES = [
    f"{when} {what}{of_a_process}"
    for what in ("token get", "machine token get", "API key get", "authorizer call")
    for when, of_a_process in (
        ("init of a process,", ""), ("first", " of a process"), ("warm", ""), ("renewal of the 30 s caches,", ""),
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("calls")) as deployment:
        return {counted.case: counted for counted in calls.count(deployment)}


@pytest.mark.parametrize("case", CASES)
def test_p3_no_more_calls_than_the_bound(counted, case):
    assert counted[case].calls <= counted[case].bound, counted[case].recording


def test_p3_nothing_else_is_counted(counted):
    assert set(counted) == set(CASES)


@pytest.mark.parametrize("what", ["token get", "machine token get", "API key get", "authorizer call"])
def test_p3_the_caches_are_renewed_by_one_batch(counted, what):
    renewal = counted[f"renewal of the 30 s caches, {what}"].recording
    assert renewal.counts()["dynamodb:BatchGetItem"] == 1, renewal
    assert not any(call.consistent for call in renewal.calls), renewal


def test_p3_a_warm_get_is_half_a_read_unit(counted):
    assert counted["warm token get"].recording.read_units == 0.5
