"""The server of each module may reach the vendor, and nothing else."""

import pytest

from harness.browser import Browser
from harness.stories import make_user_provider, make_workload


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


@pytest.fixture(scope="module")
def workload(caller, app, fresh):
    return make_workload(caller, fresh("agent"), app.return_url)


@pytest.fixture(scope="module")
def provider(caller, vendor, fresh):
    """A provider for users that most tests share."""
    return make_user_provider(caller, vendor, fresh("vendor"))


@pytest.fixture
def browser():
    return Browser()


@pytest.fixture
def normal_vendor(vendor):
    """The vendor with counters at zero, tokens of an hour and no trouble, before and after."""
    vendor.reset()
    yield vendor
    vendor.reset()
