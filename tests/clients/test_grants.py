"""D1 in embedded mode: principals are access keys."""

import pytest

from harness.grants_walk import *  # noqa: F403
from harness.product import create_access_key


@pytest.fixture(scope="module")
def principal(server, fresh):
    """Callers with just these grants."""
    opened = []

    def make(*grants):
        opened.append(server.caller(create_access_key(server.data, fresh("principal"), *grants)))
        return opened[-1]

    yield make
    for made in opened:
        made.close()
