"""The page before the provider, click by click over raw HTTP: one browser however often it clicks, and no other (D12)."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from harness import planted
from harness.stories import make_workload, workload_token
from harness.wire import Connection

RETURN_URL = "http://localhost:8081/return"
AUTHORIZE = "/identities/oauth2/authorize"


@pytest.fixture(scope="module")
def provider(caller):
    """Known by its metadata: nobody has to be reached before the code is exchanged."""
    caller.ok(
        "CreateOauth2CredentialProvider",
        name="calendar",
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={
            "customOauth2ProviderConfig": {
                "oauthDiscovery": {
                    "authorizationServerMetadata": {
                        "issuer": "https://idp.example.com",
                        "authorizationEndpoint": "https://idp.example.com/authorize",
                        "tokenEndpoint": "https://idp.example.com/token",
                        "responseTypes": ["code"],
                    }
                },
                "clientId": "client",
                "clientSecret": planted.new_secret("client secret"),
            }
        },
    )
    return "calendar"


@pytest.fixture
def query(caller, provider, fresh):
    """The query of the authorization URL of a new session."""
    agent = make_workload(caller, fresh("agent"), RETURN_URL)
    said = caller.ok(
        "GetResourceOauth2Token",
        workloadIdentityToken=workload_token(caller, agent, "alice"),
        resourceCredentialProviderName=provider,
        scopes=["read"],
        oauth2Flow="USER_FEDERATION",
        resourceOauth2ReturnUrl=RETURN_URL,
    )
    return urlsplit(said["authorizationUrl"]).query


class Tab:
    """A browser that sends the cookie of the page which it shows, whatever it was sent since."""

    def __init__(self, server):
        self.server = server
        self.headers = {"Host": f"127.0.0.1:{server.port}"}

    def send(self, method, target, body=b"", **headers):
        with Connection(self.server.port) as connection:
            return connection.send(method, target, self.headers | headers, body)

    def open(self, query):
        answer = self.send("GET", f"{AUTHORIZE}?{query}")
        if cookie := answer.headers.get("set-cookie", "").split(";")[0]:
            planted.plant(cookie.split("=")[1], "cookie of a browser")
            self.headers["Cookie"] = cookie
        return answer

    def click(self, query):
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.server.url}
        return self.send("POST", AUTHORIZE, query.encode(), **form)

    def come_back(self, redirect):
        """From the provider, with a code and the state of this redirect."""
        sent = parse_qs(urlsplit(redirect.headers["location"]).query)
        callback = urlsplit(sent["redirect_uri"][0])
        code = planted.new_secret("authorization code")
        answer = {"state": sent["state"][0], "code": code, "iss": "https://idp.example.com"}
        return self.send("GET", f"{callback.path}?{urlencode(answer)}")


def is_a_refusal_of_another_browser(answer):
    return answer.status == 403 and b"another browser" in answer.body


def test_d12_a_double_click_goes_on_with_the_second_click(server, query):
    tab = Tab(server)
    assert tab.open(query).status == 200
    first, second = tab.click(query), tab.click(query)
    assert (first.status, second.status) == (303, 303)
    back = tab.come_back(second)
    assert back.status == 302 and back.headers["location"].startswith(f"{RETURN_URL}?session_id=")


def test_d12_clicks_at_the_same_time_all_go_on(server, query):
    tab = Tab(server)
    tab.open(query)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: tab.click(query).status, range(6)))
    assert answers == [303] * 6


def test_d12_the_browser_that_went_on_can_open_the_link_again(server, query):
    tab = Tab(server)
    tab.open(query)
    tab.click(query)
    assert tab.open(query).status == 200
    assert tab.come_back(tab.click(query)).status == 302


def test_d12_another_browser_is_refused_on_the_page_and_on_the_click_and_harms_nobody(server, query):
    tab, early, late = Tab(server), Tab(server), Tab(server)
    assert tab.open(query).status == early.open(query).status == 200, "a look binds nobody"
    redirect = tab.click(query)
    assert is_a_refusal_of_another_browser(early.click(query))
    refused = late.open(query)
    assert is_a_refusal_of_another_browser(refused) and "set-cookie" not in refused.headers
    assert is_a_refusal_of_another_browser(late.click(query))
    assert is_a_refusal_of_another_browser(early.come_back(redirect))
    assert tab.come_back(redirect).status == 302


def test_d12_a_browser_keeps_its_cookie_from_page_to_page(server, query):
    tab = Tab(server)
    tab.open(query)
    cookie = tab.headers["Cookie"]
    tab.open(query)
    assert tab.headers["Cookie"] == cookie, "two consents of one browser share it"
