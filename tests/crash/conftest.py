"""The number of kills and the seed can be chosen: CRASH_KILLS (30; 150 in `.ci/run`), CRASH_SEED (random, printed)."""

import os
import random
import secrets

import pytest


@pytest.fixture(scope="session")
def kills():
    return int(os.environ.get("CRASH_KILLS", "30"))


@pytest.fixture(scope="session")
def seed():
    return int(os.environ.get("CRASH_SEED", secrets.randbelow(2**32)))


@pytest.fixture
def dice(seed, capsys):
    with capsys.disabled():
        print(f"\ncrash: CRASH_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)
