"""Chromium, as a user has it: with its own cookies, redirects and policies."""

import pytest
from playwright.sync_api import sync_playwright

from harness.stories import make_guarded_agent, sign_in

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page of a browser that has no cookie yet."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    return make_guarded_agent(caller, vendor, fresh("agent"))


@pytest.fixture(scope="module")
def sign_in_as(vendor):
    return lambda user: sign_in(vendor, user)["access_token"]
