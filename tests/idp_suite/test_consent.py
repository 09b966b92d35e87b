"""USER_FEDERATION from the first question to the token, driven over HTTP as a browser and an agent do it."""

from urllib.parse import parse_qs, urlsplit

import pytest

from harness.browser import Browser
from harness.product import Server, create_access_key
from harness.stories import (
    Consent, connected_user, make_user_provider, make_workload, sign_in_at_vendor, stored_token, workload_token,
)  # fmt: skip


@pytest.fixture
def consent(caller, workload, provider, app):
    """A consent session of the user alice that nobody has opened yet."""
    wat = workload_token(caller, workload, "alice")
    more = {"resourceOauth2ReturnUrl": app.return_url, "customState": "state-of-the-app"}
    return Consent(caller, wat, provider, more=more | {"forceAuthentication": True})


def test_the_whole_way_to_a_token_that_works(caller, normal_vendor, provider, workload, app, browser, fresh):
    user = fresh("user")
    wat = workload_token(caller, workload, user)
    more = {"resourceOauth2ReturnUrl": app.return_url, "customState": "state-of-the-app"}
    consent = Consent(caller, wat, provider, more=more).begin()
    assert consent.session_uri.startswith("urn:ietf:params:oauth:request_uri:")

    landed = consent.agree(browser, user)
    assert landed.status == 200 and landed.url.startswith(app.return_url)
    query = parse_qs(urlsplit(landed.url).query)
    assert query == {"session_id": [consent.session_uri], "state": ["state-of-the-app"]}

    assert consent.poll().json["sessionStatus"] == "IN_PROGRESS"
    completed = consent.complete(userId=user)
    assert (completed.status, completed.json) == (200, {})
    token = consent.token()
    status, body = normal_vendor.call_api(token)
    assert (status, body["subject"]) == (200, user)
    assert body["scope"].split() == ["openid", "things.read"]

    assert stored_token(caller, wat, provider).json == {"accessToken": token}
    assert stored_token(caller, wat, provider, ["things.read"]).json == {"accessToken": token}, "a subset is granted too"
    codes = [request for request in normal_vendor.token_requests() if request["grantType"] == "authorization_code"]
    assert [request["hasCodeVerifier"] for request in codes] == [True]


def test_the_authorization_url_is_on_this_server_and_holds_nothing_but_the_session(consent, server):
    consent.begin()
    url = urlsplit(consent.authorization_url)
    assert f"{url.scheme}://{url.netloc}" == server.url
    assert url.path == "/identities/oauth2/authorize"
    assert parse_qs(url.query) == {"request_uri": [consent.session_uri]}


def test_d12_the_page_shows_who_asks_for_what_and_a_get_changes_nothing(
    consent, browser, workload, provider, normal_vendor
):
    consent.begin()
    for _ in range(3):
        page = browser.get(consent.authorization_url)
        assert page.status == 200 and page.url == consent.authorization_url
        for word in (workload, provider, "things.read"):
            assert word in page.text, f"the page does not say {word}: {page.text}"
        (form,) = page.forms
        assert form.method == "post"
    arrived = browser.submit(page)
    assert arrived.url.startswith(normal_vendor.issuer), "three looks did not use the session up"


def test_d12_the_page_cannot_be_framed_cached_or_scripted(consent, browser):
    page = browser.get(consent.begin().authorization_url)
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in page.body


def test_d12_the_cookie_is_only_for_this_browser_and_not_for_scripts(consent, browser, normal_vendor):
    url = consent.begin().authorization_url
    Browser().get(url)
    page = browser.get(url)
    seen = page.headers.get_all("Set-Cookie")
    original = browser._fetch

    def watch(*arguments):
        answer = original(*arguments)
        seen.extend(answer.headers.get_all("Set-Cookie") or [])
        return answer

    browser._fetch = watch
    assert browser.submit(page).url.startswith(normal_vendor.issuer), "looking at the page bound nobody"
    with_the_page, with_the_redirect = seen[:2]
    assert with_the_page == with_the_redirect, "two clicks on the page are one browser's"
    ours = with_the_page.lower()
    assert "httponly" in ours and "samesite=lax" in ours
    assert "domain=" not in ours
    assert "secure" not in ours, "on http to loopback a Secure cookie would not come back"


@pytest.mark.parametrize("whose", ["workload", "provider"])
def test_d12_a_consent_screen_of_ones_own_replaces_the_page_but_not_the_cookie(
    caller, server, app, browser, fresh, normal_vendor, whose
):
    off = {"agent-identity:interstitial": "false"}
    agent, user = fresh("agent"), fresh("user")
    caller.ok(
        "CreateWorkloadIdentity", name=agent, allowedResourceOauth2ReturnUrls=[app.return_url],
        **({"tags": off} if whose == "workload" else {}),
    )  # fmt: skip
    provider = make_user_provider(caller, normal_vendor, fresh("vendor"), tags=off if whose == "provider" else None)
    more = {"resourceOauth2ReturnUrl": app.return_url}
    consent = Consent(caller, workload_token(caller, agent, user), provider, more=more).begin()
    login = browser.get(consent.authorization_url)
    assert login.url.startswith(normal_vendor.issuer), "the page is skipped"
    callback = sign_in_at_vendor(browser, login, user, f"{server.url}/identities/oauth2/callback/").url
    assert 400 <= Browser().get(callback).status < 500, "another browser is still refused"
    assert browser.get(callback).status == 200
    assert consent.complete(userId=user).status == 200


def test_what_the_vendor_is_asked(consent, browser, normal_vendor, caller, provider):
    consent.begin()
    page = browser.submit(browser.get(consent.authorization_url), stop_before=f"{normal_vendor.issuer}/auth")
    query = {name: values for name, values in parse_qs(urlsplit(page.url).query).items()}
    callback = caller.ok("GetOauth2CredentialProvider", name=provider)["callbackUrl"]
    assert query["client_id"] == [provider]
    assert query["redirect_uri"] == [callback]
    assert query["response_type"] == ["code"]
    assert set(query["scope"][0].split()) == {"openid", "things.read"}
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["code_challenge"][0]) == 43
    (state,) = query["state"]
    assert len(state) >= 22 and state != "state-of-the-app" and consent.session_uri not in state


def test_custom_parameters_reach_the_vendor(caller, workload, provider, app, browser, normal_vendor):
    more = {
        "resourceOauth2ReturnUrl": app.return_url, "customParameters": {"login_hint": "carol", "ui_locales": "fr"},
        "forceAuthentication": True,
    }  # fmt: skip
    consent = Consent(caller, workload_token(caller, workload, "carol"), provider, more=more).begin()
    page = browser.submit(browser.get(consent.authorization_url), stop_before=f"{normal_vendor.issuer}/auth")
    query = parse_qs(urlsplit(page.url).query)
    assert (query["login_hint"], query["ui_locales"]) == (["carol"], ["fr"])


def test_d13_a_poll_before_the_end_says_in_progress_and_nothing_else_happens(consent, browser):
    consent.begin()
    for _ in range(3):
        answer = consent.poll()
        assert (answer.status, answer.json["sessionStatus"]) == (200, "IN_PROGRESS")
        assert "accessToken" not in answer.json
        assert answer.json["sessionUri"] == consent.session_uri
    consent.agree(browser, "alice")
    assert consent.poll().json["sessionStatus"] == "IN_PROGRESS", "a callback alone completes nothing"


def test_d13_a_poll_concerns_its_own_session_only(caller, workload, provider, app, browser, fresh):
    user = fresh("user")
    done = connected_user(caller, workload, provider, user, app.return_url)
    assert done.token()
    more = {"resourceOauth2ReturnUrl": app.return_url, "forceAuthentication": True}
    second = Consent(caller, workload_token(caller, workload, user), provider, more=more).begin()
    assert second.poll().json["sessionStatus"] == "IN_PROGRESS", "the old token answers the old question only"


def test_force_authentication_starts_a_new_consent_although_there_is_a_token(caller, workload, provider, app, fresh):
    user = fresh("user")
    first = connected_user(caller, workload, provider, user, app.return_url)
    wat = workload_token(caller, workload, user)
    assert "accessToken" in stored_token(caller, wat, provider).json
    more = {"resourceOauth2ReturnUrl": app.return_url, "forceAuthentication": True}
    second = Consent(caller, wat, provider, more=more).begin()
    assert second.session_uri != first.session_uri


def test_more_scopes_than_were_granted_ask_for_the_union(caller, workload, provider, app, browser, fresh, normal_vendor):
    user = fresh("user")
    connected_user(caller, workload, provider, user, app.return_url)
    wat = workload_token(caller, workload, user)
    more = {"resourceOauth2ReturnUrl": app.return_url}
    step_up = Consent(caller, wat, provider, ["things.write"], more).begin()
    page = browser.submit(browser.get(step_up.authorization_url), stop_before=f"{normal_vendor.issuer}/auth")
    asked = parse_qs(urlsplit(page.url).query)["scope"][0].split()
    assert set(asked) == {"openid", "things.read", "things.write"}


def test_users_do_not_see_each_others_tokens(caller, workload, provider, app, fresh):
    alice, bob = fresh("user"), fresh("user")
    connected_user(caller, workload, provider, alice, app.return_url)
    answer = Consent(
        caller, workload_token(caller, workload, bob), provider, more={"resourceOauth2ReturnUrl": app.return_url}
    ).ask()
    assert "accessToken" not in answer.json and answer.json["sessionStatus"] == "IN_PROGRESS"


def test_workloads_do_not_see_each_others_tokens(caller, workload, provider, app, fresh):
    user = fresh("user")
    connected_user(caller, workload, provider, user, app.return_url)
    other = workload_token(caller, make_workload(caller, fresh("other-agent"), app.return_url), user)
    answer = Consent(caller, other, provider, more={"resourceOauth2ReturnUrl": app.return_url}).ask()
    assert "accessToken" not in answer.json


def test_d9_a_provider_made_again_under_its_name_inherits_no_connection(caller, vendor, workload, app, fresh):
    user, name = fresh("user"), make_user_provider(caller, vendor, fresh("vendor"))
    connected_user(caller, workload, name, user, app.return_url)
    caller.ok("DeleteOauth2CredentialProvider", name=name)
    make_user_provider(caller, vendor, name)
    wat = workload_token(caller, workload, user)
    answer = Consent(caller, wat, name, more={"resourceOauth2ReturnUrl": app.return_url}).ask()
    assert "accessToken" not in answer.json


def test_without_a_return_url_the_built_in_page_completes_the_session_by_itself(
    caller, normal_vendor, provider, server, browser, fresh
):
    user = fresh("user")
    agent = make_workload(caller, fresh("laptop-agent"))
    consent = Consent(caller, workload_token(caller, agent, user), provider).begin()
    page = sign_in_at_vendor(browser, consent.to_the_vendor(browser), user)
    assert page.url.startswith(server.url)
    if page.forms:
        page = browser.submit(page)
    assert page.status == 200, page.text
    token = consent.token()
    assert normal_vendor.call_api(token)[1]["subject"] == user


@pytest.fixture
def moved(tmp_path, normal_vendor):
    """A server on loopback, and how it comes back on the same data and port with a public address."""
    running = [Server(tmp_path / "store", (normal_vendor.address,)).start()]
    own_key = create_access_key(running[0].data, "own", "admin", "mint-userid,read")

    def move():
        before = running.pop()
        assert before.stop() == 0
        public = ("--public-base-url", "https://id.example.com")
        running.append(Server(before.data, before.allow_egress, arguments=public, port=before.port).start())
        return running[0].caller(own_key)

    yield running[0].caller(own_key), move
    assert running[0].stop() == 0


def test_the_built_in_page_is_on_loopback_only(moved, normal_vendor, browser):
    caller, move = moved
    make_workload(caller, "laptop-agent")
    provider = make_user_provider(caller, normal_vendor, "laptop")
    begun = Consent(caller, workload_token(caller, "laptop-agent", "alice"), provider).begin()
    url = f"http://127.0.0.1:{caller.port}"
    return_page = sign_in_at_vendor(
        browser, begun.to_the_vendor(browser), "alice", f"{url}/identities/oauth2/return"
    ).url
    assert return_page.startswith(f"{url}/identities/oauth2/return?session_id=")
    caller.close()

    public = move()
    page = browser.get(return_page)
    assert page.status == 404, page.text
    assert browser.get(f"{url}/identities/oauth2/return").status in (400, 404)
    # Our browser does not send the cookie that an https server reads: one that claims to is refused the same.
    (cookie,) = [cookie.value for cookie in browser.jar if cookie.name == "agent-identity-consent"]
    page = browser._fetch(return_page, "GET", None, {"Cookie": f"__Host-agent-identity-consent={cookie}"})
    assert page.status == 404, page.text
    begun.caller = public
    assert begun.poll().json["sessionStatus"] == "IN_PROGRESS", "nobody completed it"

    fresh = Consent(public, workload_token(public, "laptop-agent", "bob"), provider).ask()
    assert (fresh.status, fresh.error) == (400, "ValidationException"), fresh
    assert "ResourceOauth2ReturnUrl" in fresh.message and fresh.wrong_fields == ["resourceOauth2ReturnUrl"]
    public.close()


def test_d12_the_built_in_page_works_in_the_right_browser_only(caller, provider, server, browser, fresh):
    agent = make_workload(caller, fresh("laptop-agent"))
    consent = Consent(caller, workload_token(caller, agent, fresh("user")), provider).begin()
    stopped = consent.to_the_callback(browser, "mallory", f"{server.url}/identities/oauth2/callback/")
    browser.forget_cookies()
    page = browser.get(stopped)
    assert 400 <= page.status < 500, page.text
    assert consent.poll().json.get("sessionStatus") == "IN_PROGRESS"


def test_a_return_url_that_is_not_registered_is_refused(consent):
    for url in ("https://elsewhere.example/return", consent.more["resourceOauth2ReturnUrl"] + "/more"):
        answer = consent.ask(resourceOauth2ReturnUrl=url)
        assert (answer.status, answer.error) == (400, "ValidationException"), url


def test_d24_on_loopback_a_return_url_matches_with_any_port(caller, provider, app, fresh, browser):
    agent = make_workload(caller, fresh("agent"), "http://127.0.0.1/return")
    user = fresh("user")
    more = {"resourceOauth2ReturnUrl": app.return_url}
    consent = Consent(caller, workload_token(caller, agent, user), provider, more=more).begin()
    assert consent.agree(browser, user).url.startswith(app.return_url)


def test_when_the_user_says_no_the_agent_is_told_and_does_not_poll_forever(consent, browser, normal_vendor):
    consent.begin()
    login = consent.to_the_vendor(browser)
    cancelled = browser.get(f"{login.url}/abort")
    assert cancelled.status < 500
    answer = consent.poll()
    assert (answer.status, answer.error) == (403, "AccessDeniedException"), answer
    assert "consent" in answer.message


def test_an_unknown_session_is_a_page_that_says_so(server, browser):
    unknown = "urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Anobody-made-this"
    page = browser.get(f"{server.url}/identities/oauth2/authorize?request_uri={unknown}")
    assert 400 <= page.status < 500 and page.forms == []


@pytest.mark.parametrize("query", ["", "?request_uri=", "?request_uri=x", "?request_uri=%00", "?request_uri=a&request_uri=b"])
def test_a_broken_authorization_url_is_a_page_and_no_500(server, browser, query):
    page = browser.get(f"{server.url}/identities/oauth2/authorize{query}")
    assert 400 <= page.status < 500


def test_what_the_user_sees_is_escaped(caller, provider, app, browser, fresh):
    agent = make_workload(caller, fresh("agent"), app.return_url)
    scope = "<b>things</b>'&"
    more = {"resourceOauth2ReturnUrl": app.return_url, "customState": "<script>"}
    consent = Consent(caller, workload_token(caller, agent, "alice"), provider, [scope], more)
    answer = consent.ask()
    if answer.status == 400:
        assert any(field.startswith("scopes") for field in answer.wrong_fields)
        return
    page = browser.get(answer.json["authorizationUrl"])
    assert "<b>things" not in page.body and "<script>" not in page.body
