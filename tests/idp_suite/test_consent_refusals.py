"""Every way in which a consent session must not end in a token, each with an error of its own."""

import threading

import pytest

from harness.browser import Browser
from harness.stories import (
    Consent, connected_user, make_user_provider, make_workload, stored_token, workload_token, workload_token_for_jwt,
)  # fmt: skip


@pytest.fixture
def start(caller, workload, provider, app):
    """Starts a consent session for a user."""

    def start(user, agent=None, at=None):
        wat = workload_token(caller, agent or workload, user)
        more = {"resourceOauth2ReturnUrl": app.return_url, "forceAuthentication": True}
        return Consent(caller, wat, at or provider, more=more).begin()

    return start


@pytest.fixture
def at_callback(start, server, browser, fresh):
    """A session whose browser stands in front of our callback: (session, callback URL, user)."""
    user = fresh("user")
    consent = start(user)
    url = consent.to_the_callback(browser, user, f"{server.url}/identities/oauth2/callback/")
    return consent, url, user


def refused(answer):
    assert answer.status in (400, 403, 404), answer
    assert answer.error in ("AccessDeniedException", "ValidationException", "ResourceNotFoundException"), answer
    assert answer.message
    return answer


def test_another_user_cannot_complete_it_and_the_right_one_still_can(start, browser, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    wrong = refused(consent.complete(userId="mallory"))
    assert wrong.error == "AccessDeniedException"
    assert consent.poll().json["sessionStatus"] == "IN_PROGRESS"
    assert consent.complete(userId=user).status == 200
    assert consent.token()


def test_a_jwt_user_is_not_the_user_id_of_the_same_name(caller, vendor, workload, start, browser, fresh):
    """D10: the kind of the user is part of who they are."""
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    refused(consent.complete(userToken=vendor.make_jwt(user)))
    assert consent.complete(userId=user).status == 200


def test_d11_completing_it_again_is_fine_for_the_right_user_and_for_nobody_else(start, browser, normal_vendor, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    for _ in range(3):
        answer = consent.complete(userId=user)
        assert (answer.status, answer.json) == (200, {})
    refused(consent.complete(userId="mallory"))
    assert normal_vendor.count("authorization_code") == 1


def test_d11_many_at_once_send_the_code_once(server, caller, start, browser, normal_vendor, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    normal_vendor.make_trouble("slow", milliseconds=300)
    answers = []

    def complete():
        own = server.caller(caller.credentials)
        answers.append(consent.complete(own, userId=user).status)
        own.close()

    threads = [threading.Thread(target=complete) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20
    assert normal_vendor.count("authorization_code") == 1
    assert normal_vendor.counters()["reuse_detections"] == 0


def test_before_the_callback_there_is_nothing_to_complete(start, fresh):
    user = fresh("user")
    consent = start(user)
    refused(consent.complete(userId=user))
    assert consent.poll().json["sessionStatus"] == "IN_PROGRESS", "asking too early ended nothing"


def test_d11_a_replayed_callback_is_refused_and_does_no_harm(at_callback, browser, normal_vendor):
    consent, url, user = at_callback
    assert browser.get(url).status == 200
    replay = browser.get(url)
    assert 400 <= replay.status < 500, replay.text
    assert consent.complete(userId=user).status == 200
    late = browser.get(url)
    assert 400 <= late.status < 500, late.text
    assert normal_vendor.counters()["reuse_detections"] == 0, "a code was sent twice"
    assert normal_vendor.call_api(consent.token())[0] == 200


def test_d12_callback_without_the_cookie_is_refused(at_callback, browser):
    consent, url, user = at_callback
    page = Browser().get(url)
    assert 400 <= page.status < 500, page.text
    refused(consent.complete(userId=user))
    assert browser.get(url).status == 200, "the right browser still can"
    assert consent.complete(userId=user).status == 200


def test_d12_another_browsers_cookie_is_refused(at_callback, start, fresh):
    consent, url, user = at_callback
    other = Browser()
    start(fresh("user")).to_the_vendor(other)
    assert len(list(other.jar)) > 0
    page = other.get(url)
    assert 400 <= page.status < 500, page.text
    refused(consent.complete(userId=user))


def test_d12_a_second_browser_cannot_take_over_the_page(start, browser, fresh):
    user = fresh("user")
    consent = start(user)
    first_page = browser.get(consent.authorization_url)
    victim = Browser()
    stolen_page = victim.get(consent.authorization_url)
    browser.submit(first_page)
    second = victim.submit(stolen_page)
    assert 400 <= second.status < 500, second.text


def test_a_state_that_was_never_made_is_refused(at_callback, browser, server):
    _, url, _ = at_callback
    base = url.split("?")[0]
    for query in ("", "?code=abc", "?state=abc", "?code=abc&state=abc", "?code=abc&state=" + "A" * 5000, "?error=x"):
        page = browser.get(f"{base}{query}")
        assert 400 <= page.status < 500, (query, page.text)


def test_a_replayed_state_with_another_code_is_refused(at_callback, browser, normal_vendor):
    consent, url, user = at_callback
    state = url.split("state=")[1].split("&")[0]
    assert browser.get(url).status == 200
    forged = browser.get(f"{url.split('?')[0]}?code=of-the-attacker&state={state}")
    assert 400 <= forged.status < 500, forged.text
    assert consent.complete(userId=user).status == 200
    assert normal_vendor.call_api(consent.token())[1]["subject"] == user


def test_a_callback_at_another_providers_address_is_refused(at_callback, caller, vendor, browser, fresh):
    """The mix-up attack: the code of one provider may never be sent to another."""
    consent, url, user = at_callback
    other = make_user_provider(caller, vendor, fresh("vendor"))
    other_callback = caller.ok("GetOauth2CredentialProvider", name=other)["callbackUrl"]
    before = vendor.count("authorization_code")
    page = browser.get(f"{other_callback}?{url.split('?', 1)[1]}")
    assert 400 <= page.status < 500, page.text
    refused(consent.complete(userId=user))
    assert vendor.count("authorization_code") == before


def test_a_callback_from_another_issuer_is_refused(at_callback, browser):
    """RFC 9207: when the issuer is named, it has to be the right one."""
    consent, url, user = at_callback
    assert "iss=" in url
    base, _, query = url.partition("?")
    changed = "&".join(
        "iss=https%3A%2F%2Fevil.example" if part.startswith("iss=") else part for part in query.split("&")
    )
    page = browser.get(f"{base}?{changed}")
    assert 400 <= page.status < 500, page.text
    refused(consent.complete(userId=user))


def test_a_token_of_another_workload_cannot_poll_or_use_the_session(caller, start, provider, app, browser, fresh):
    user = fresh("user")
    consent = start(user)
    other = workload_token(caller, make_workload(caller, fresh("other-agent"), app.return_url), user)
    stolen = Consent(caller, other, provider, more=consent.more, session_uri=consent.session_uri)
    assert refused(stolen.poll()).error == "AccessDeniedException"
    consent.agree(browser, user)
    assert consent.complete(userId=user).status == 200
    assert refused(stolen.poll()).error == "AccessDeniedException"


def test_a_token_of_another_user_cannot_poll_the_session(caller, start, provider, workload, browser, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    assert consent.complete(userId=user).status == 200
    mallory = workload_token(caller, workload, "mallory")
    stolen = Consent(caller, mallory, provider, more=consent.more, session_uri=consent.session_uri)
    assert refused(stolen.poll()).error == "AccessDeniedException"


def test_a_session_of_one_provider_is_not_one_of_another(caller, start, vendor, fresh):
    consent = start(fresh("user"))
    other = make_user_provider(caller, vendor, fresh("vendor"))
    crossed = Consent(caller, consent.wat, other, more=consent.more, session_uri=consent.session_uri)
    refused(crossed.poll())


def test_an_unknown_session_cannot_be_completed_or_polled(caller, start, fresh):
    consent = start(fresh("user"))
    consent.session_uri = "urn:ietf:params:oauth:request_uri:nobody-made-this"
    refused(consent.complete(userId="alice"))
    refused(consent.poll())


def test_d11_a_code_that_the_vendor_refuses_leaves_the_old_connection_alone(
    caller, server, workload, provider, app, browser, normal_vendor, fresh
):
    user = fresh("user")
    connected_user(caller, workload, provider, user, app.return_url)
    wat = workload_token(caller, workload, user)
    old = stored_token(caller, wat, provider).json["accessToken"]
    more = {"resourceOauth2ReturnUrl": app.return_url, "forceAuthentication": True}
    again = Consent(caller, wat, provider, more=more).begin()
    url = again.to_the_callback(browser, user, f"{server.url}/identities/oauth2/callback/")
    code = url.split("code=")[1].split("&")[0]
    assert browser.get(url.replace(code, "not-the-code")).status == 200
    refused(again.complete(userId=user))
    assert stored_token(caller, wat, provider).json == {"accessToken": old}


def test_d11_a_code_whose_answer_was_lost_is_never_sent_again(start, browser, normal_vendor, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    normal_vendor.make_trouble("drop", remaining=1)
    first = consent.complete(userId=user)
    assert first.status != 200
    second = consent.complete(userId=user)
    assert second.status != 200
    assert normal_vendor.count("authorization_code") == 1
    assert normal_vendor.counters()["reuse_detections"] == 0


def test_d11_a_code_to_which_the_vendor_answered_429_is_never_sent_again(start, browser, normal_vendor, fresh):
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    normal_vendor.make_trouble("status", remaining=1, status=429)
    first, second = consent.complete(userId=user), consent.complete(userId=user)
    for answer in (refused(first), refused(second), refused(consent.poll())):
        assert answer.error == "AccessDeniedException" and "start again" in answer.message
    assert normal_vendor.counters()["total"] == 1
    again = start(user)
    again.agree(Browser(), user)
    assert again.complete(userId=user).status == 200


def test_the_four_refusals_can_be_told_apart(caller, start, provider, workload, app, browser, server, fresh):
    """Wrong user, already used, wrong workload; expired is compared in `test_expiry.py`."""
    user = fresh("user")
    consent = start(user)
    consent.agree(browser, user)
    wrong_user = refused(consent.complete(userId="mallory")).message
    other = workload_token(caller, make_workload(caller, fresh("other-agent"), app.return_url), user)
    wrong_workload = refused(
        Consent(caller, other, provider, more=consent.more, session_uri=consent.session_uri).poll()
    ).message
    used_browser = Browser()
    used = start(user)
    url = used.to_the_callback(used_browser, user, f"{server.url}/identities/oauth2/callback/")
    assert used_browser.get(url).status == 200
    already_used = used_browser.get(url).text
    assert len({wrong_user, wrong_workload, already_used}) == 3
    assert "user" in wrong_user and "workload" in wrong_workload and "used" in already_used


def test_completing_with_a_newly_minted_jwt_of_the_same_user_works(caller, vendor, workload, provider, app, browser, fresh):
    user = fresh("user")
    wat = workload_token_for_jwt(caller, workload, vendor.make_jwt(user))
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(browser, user)
    refused(consent.complete(userToken=vendor.make_jwt("mallory")))
    refused(consent.complete(userId=user))
    assert consent.complete(userToken=vendor.make_jwt(user)).status == 200
    assert consent.token()
