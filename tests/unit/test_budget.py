"""The retry budget bounds what retries add to the load of a server that fails."""

from __future__ import annotations

import random

import pytest
from conftest import MakeRig
from retry_rules import Again, decide

from dominus.contract.kinds import Retry
from dominus.errors import RateLimitError, ServiceError
from dominus.testing import failure, ok
from dominus.transport.budget import Budget
from dominus.transport.failure import Failure
from dominus.transport.retry import Facts, Policy


def load(error_rate: float, *, calls: int = 20_000, seed: int = 7) -> float:
    """Return attempts per call, with the real decision and the real budget."""
    rng = random.Random(seed)
    budget, policy = Budget(), Policy()
    failed = Failure(ServiceError("down", status_code=503))
    attempts = 0
    for _ in range(calls):
        attempt = 1
        while True:
            attempts += 1
            if rng.random() >= error_rate:
                budget.earn()
                break
            facts = Facts(
                retry=Retry.READ,
                keeps_keys=True,
                is_replayable=True,
                left=30.0,
                patience=0.0,
            )
            step = decide(failed, facts, policy, attempt=attempt, jitter=rng.random())
            if not isinstance(step, Again) or not budget.spend():
                break
            attempt += 1
    return attempts / calls


@pytest.mark.parametrize("error_rate", [0.3, 0.5, 0.9, 1.0])
def test_a_lasting_outage_costs_less_than_a_tenth_more_load(error_rate: float):
    assert load(error_rate) < 1.10


def test_at_half_errors_the_first_thousand_calls_load_what_the_architecture_says():
    assert load(0.5, calls=1000) == pytest.approx(1.07, abs=0.01)


def test_rare_errors_are_all_retried():
    assert load(0.01) == pytest.approx(1.01, abs=0.005)


def test_the_bucket_never_holds_more_than_its_capacity_and_never_less_than_nothing():
    budget = Budget(capacity=20.0, cost=14.0)
    budget.earn()
    assert budget.left == 20.0
    assert budget.spend()
    assert not budget.spend()
    assert budget.left == 6.0
    for _ in range(8):
        budget.earn()
    assert budget.spend()
    assert budget.left == 0.0


async def test_too_many_requests_spend_nothing_of_what_failures_spend(make_rig: MakeRig):
    rig = make_rig(failure(429), failure(429), ok({"found": True, "value": 7}))
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.client.stats()["retries"] == 2
    assert rig.client.stats()["retry_budget_left"] == 500.0


async def test_an_empty_budget_does_not_keep_a_429_from_being_repeated(make_rig: MakeRig):
    rig = make_rig(failure(429), ok({"found": True, "value": 7}))
    await rig.warm_up()
    rig.shared.budget.left = 0.0
    assert await rig.client.redis.get("k") == 7


async def test_a_429_whose_retries_ran_out_says_that_the_rate_is_too_high(make_rig: MakeRig):
    rig = make_rig(default=failure(429, "more than 2000 requests a second"))
    await rig.warm_up()
    with pytest.raises(RateLimitError, match="the rate is too high") as caught:
        await rig.client.redis.get("k")
    assert caught.value.attempts == 4
    assert "fails" not in str(caught.value)
