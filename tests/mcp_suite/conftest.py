"""An agent behind its authorizer, whose tools call a third party's API with credentials of the vault."""

import pytest

from harness.stories import FRONT_END_AUDIENCE, make_workload, sign_in
from harness.upstream import Upstream


@pytest.fixture(scope="module")
def upstream():
    running = Upstream()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def as_before(upstream):
    upstream.reset()


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    name = make_workload(caller, fresh("agent"))
    caller.ok("PutAuthorizer", agentId=name, name="main", authorizerConfiguration={
        "customJWTAuthorizer": {"discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}})  # fmt: skip
    return name


@pytest.fixture(scope="module")
def sign_in_as(vendor):
    return lambda user: sign_in(vendor, user)["access_token"]
