"""The functions on emulators, as the suites of embedded mode see `serve`."""

import pytest

from harness.functions import Functions
from harness.stories import FRONT_END_AUDIENCE


@pytest.fixture(scope="module")
def functions(vendor):
    trusted = f"issuer={vendor.issuer},audience={FRONT_END_AUDIENCE}"
    running = Functions((vendor.address,), {"AGENT_IDENTITY_TRUSTED_ISSUERS": trusted}).start()
    yield running
    running.stop()
