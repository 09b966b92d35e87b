"""An agent behind its authorizer, whose tools call a third party's API with credentials of the vault."""

import pytest

from harness.stories import make_guarded_agent, sign_in


@pytest.fixture(autouse=True)
def as_before(upstream):
    upstream.reset()


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    return make_guarded_agent(caller, vendor, fresh("agent"))


@pytest.fixture(scope="module")
def sign_in_as(vendor):
    return lambda user: sign_in(vendor, user)["access_token"]
