"""What ends with time: consent sessions after 10 minutes, user tokens, access tokens. The clock of `serve` is moved by
libfaketime; the vendor's clock and the tests' stay."""

from urllib.parse import urlsplit

import pytest

from harness.browser import Browser
from harness.product import Server
from harness.stories import Consent, make_user_provider, make_workload, workload_token

MINUTE = 60


class Story:
    """One server that can be started again later on the same data and port, with its vendor and a user."""

    def __init__(self, data, vendor, app):
        self.server = Server(data, (vendor.address,)).start()
        self.caller = self.server.caller()
        self.app = app
        self.provider = make_user_provider(self.caller, vendor, "vendor")
        make_workload(self.caller, "agent", app.return_url)

    def consent(self, user="alice"):
        wat = workload_token(self.caller, "agent", user)
        return Consent(self.caller, wat, self.provider, more={"resourceOauth2ReturnUrl": self.app.return_url}).begin()

    def jump(self, seconds):
        """The same server, `seconds` after its real time; clients sign with the same clock."""
        self.caller.close()
        assert self.server.stop() == 0
        self.server = Server(
            self.server.data, self.server.allow_egress, port=self.server.port, clock_offset_seconds=seconds
        ).start()
        self.caller = self.server.caller()
        return self.caller

    def end(self):
        self.caller.close()
        assert self.server.stop() == 0


@pytest.fixture
def story(tmp_path, normal_vendor, app):
    made = Story(tmp_path / "store", normal_vendor, app)
    # Provider names are the client ids at the vendor, which all stories of this module share.
    yield made
    made.end()


def refusal(answer):
    assert answer.status in (400, 403), answer
    assert answer.error in ("AccessDeniedException", "ValidationException"), answer
    return answer.message


def test_the_clock_of_the_server_can_be_moved(story):
    """Without this, every other test here could pass for the wrong reason."""
    before = story.caller.ok("GetWorkloadIdentity", name="agent")["createdTime"]
    story.jump(9 * MINUTE)
    make_workload(story.caller, "made-later")
    after = story.caller.ok("GetWorkloadIdentity", name="made-later")["createdTime"]
    assert 8 * MINUTE < after - before < 11 * MINUTE


def test_after_nine_minutes_a_session_can_still_be_completed(story):
    consent = story.consent()
    consent.agree(Browser(), "alice")
    consent.caller = story.jump(9 * MINUTE)
    assert consent.complete(userId="alice").status == 200


def test_after_eleven_minutes_a_session_is_expired_and_not_something_else(story):
    consent = story.consent()
    consent.agree(Browser(), "alice")
    wrong_user = refusal(consent.complete(userId="mallory"))
    other = workload_token(story.caller, make_workload(story.caller, "other", story.app.return_url), "alice")
    foreign = Consent(story.caller, other, story.provider, more=consent.more, session_uri=consent.session_uri)
    wrong_workload = refusal(foreign.poll())

    consent.caller = story.jump(11 * MINUTE)
    expired = refusal(consent.complete(userId="alice"))
    assert "expired" in expired
    assert len({expired, wrong_user, wrong_workload}) == 3
    polled = consent.poll()
    assert polled.status in (400, 403) and "expired" in polled.message, polled


def test_the_six_refusals_are_six_texts(story, normal_vendor):
    """Each of the six tells its own reason, so that whoever reads it knows what happened."""
    callbacks = f"{story.server.url}/identities/oauth2/callback/"
    texts = {}

    used, browser = story.consent(), Browser()
    callback = used.to_the_callback(browser, "alice", callbacks)
    other_provider = make_user_provider(story.caller, normal_vendor, "another-vendor")
    other_callback = story.caller.ok("GetOauth2CredentialProvider", name=other_provider)["callbackUrl"]
    crossed = browser.get(f"{other_callback}?{callback.split('?', 1)[1]}")
    texts["cross-provider callback"] = crossed
    assert browser.get(callback).status == 200
    texts["replayed code"] = browser.get(callback)
    code = callback.split("code=")[1].split("&")[0]
    texts["replayed state"] = browser.get(callback.replace(code, "a-code-of-the-attacker"))
    for what, page in texts.items():
        assert 400 <= page.status < 500, (what, page.status, page.text)
        texts[what] = page.text

    texts["wrong user"] = refusal(used.complete(userId="mallory"))
    other = workload_token(story.caller, make_workload(story.caller, "foreign", story.app.return_url), "alice")
    foreign = Consent(story.caller, other, story.provider, more=used.more, session_uri=used.session_uri)
    texts["foreign workload's token"] = refusal(foreign.poll())
    assert used.complete(userId="alice").status == 200, "none of these did any harm"

    late = story.consent("carol")
    late.agree(Browser(), "carol")
    late.caller = story.jump(11 * MINUTE)
    texts["expired session"] = refusal(late.complete(userId="carol"))
    assert len(texts) == 6 and all(texts.values())
    assert len(set(texts.values())) == 6, texts


def test_an_authorization_url_ends_with_its_session(story):
    consent = story.consent()
    browser = Browser()
    assert browser.get(consent.authorization_url).forms
    story.jump(11 * MINUTE)
    page = browser.get(consent.authorization_url)
    assert 400 <= page.status < 500 and page.forms == []
    assert "expired" in page.text


def test_a_page_that_was_left_open_ends_with_its_session(story, normal_vendor):
    browser = Browser()
    page = browser.get(story.consent().authorization_url)
    story.jump(11 * MINUTE)
    answer = browser.submit(page)
    assert not answer.url.startswith(normal_vendor.issuer)
    assert 400 <= answer.status < 500 and "expired" in answer.text


def test_a_callback_ends_with_its_session(story):
    browser = Browser()
    consent = story.consent()
    callback = consent.to_the_callback(browser, "alice", f"{story.server.url}/identities/oauth2/callback/")
    story.jump(11 * MINUTE)
    page = browser.get(callback)
    assert 400 <= page.status < 500 and "expired" in page.text
    assert urlsplit(page.url).port == story.server.port, "nothing is handed to the return URL"


def test_an_access_token_that_has_ended_is_refreshed(story, normal_vendor):
    consent = story.consent()
    consent.agree(Browser(), "alice")
    assert consent.complete(userId="alice").status == 200
    first = consent.token()
    caller = story.jump(2 * 60 * MINUTE)
    said = caller.ok(
        "GetResourceOauth2Token",
        workloadIdentityToken=workload_token(caller, "agent", "alice"),
        resourceCredentialProviderName=story.provider,
        scopes=["openid", "things.read"],
        oauth2Flow="USER_FEDERATION",
    )
    assert said["accessToken"] != first
    assert normal_vendor.count("refresh_token") == 1
    assert normal_vendor.call_api(said["accessToken"])[0] == 200
