"""What agents, users and vendors do in most tests: make a provider, get tokens, consent."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.request
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from . import planted
from .browser import Browser, Page
from .vendor import Vendor
from .wire import Answer, Caller

SCOPES = ["openid", "things.read"]
FRONT_END_AUDIENCE = "https://agents.example.com"


def make_workload(caller: Caller, name: str, *return_urls: str) -> str:
    caller.ok("CreateWorkloadIdentity", name=name, allowedResourceOauth2ReturnUrls=list(return_urls))
    return name


def make_guarded_agent(caller: Caller, vendor: Vendor, name: str) -> str:
    """A workload with an authorizer: the vendor's users are let in with their tokens for the front end."""
    make_workload(caller, name)
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}
    caller.ok("PutAuthorizer", agentId=name, name="main", authorizerConfiguration={"customJWTAuthorizer": rules})
    return name


def workload_token(caller: Caller, workload: str, user_id: str | None = None) -> str:
    """A workload access token for this user id, or for no user."""
    if user_id is None:
        said = caller.ok("GetWorkloadAccessToken", workloadName=workload)
    else:
        said = caller.ok("GetWorkloadAccessTokenForUserId", workloadName=workload, userId=user_id)
    return planted.plant(said["workloadAccessToken"], "workload access token")


def workload_token_for_jwt(caller: Caller, workload: str, user_token: str) -> str:
    said = caller.ok("GetWorkloadAccessTokenForJWT", workloadName=workload, userToken=user_token)
    return planted.plant(said["workloadAccessToken"], "workload access token")


def custom_config(vendor: Vendor, client_id: str, client_secret: str | None, **more: Any) -> dict[str, Any]:
    secret = {} if client_secret is None else {"clientSecret": client_secret}
    return {
        "customOauth2ProviderConfig": {
            "oauthDiscovery": {"discoveryUrl": vendor.discovery_url},
            "clientId": client_id,
            **secret,
            **more,
        }
    }


def make_machine_provider(caller: Caller, vendor: Vendor, name: str, method: str = "client_secret_basic") -> str:
    """A provider for M2M, registered at the vendor with this client authentication."""
    secret = planted.new_secret("client secret")
    vendor.register_client(name, client_secret=secret, token_endpoint_auth_method=method)
    caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(vendor, name, secret, clientAuthenticationMethod=method.upper()),
    )
    return name


def make_user_provider(
    caller: Caller, vendor: Vendor, name: str, tags: dict[str, str] | None = None, **more: Any
) -> str:
    """A provider for users: created first, since the vendor has to know its callback URL."""
    secret = planted.new_secret("client secret")
    made = caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(vendor, name, secret, **more),
        tags=tags or {},
    )
    vendor.register_client(name, client_secret=secret, redirect_uris=[made["callbackUrl"]])
    return name


def machine_token(caller: Caller, wat: str, provider: str, scopes: list[str] | None = None, **more: Any) -> str:
    said = caller.ok(
        "GetResourceOauth2Token",
        workloadIdentityToken=wat,
        resourceCredentialProviderName=provider,
        scopes=["things.read"] if scopes is None else scopes,
        oauth2Flow="M2M",
        **more,
    )
    return planted.plant(said["accessToken"], "access token")


def sign_in_at_vendor(browser: Browser, login_page: Page, login: str, stop_before: str | None = None) -> Page:
    """Types the login, agrees to what is asked, and arrives wherever the vendor sends the browser."""
    page = browser.submit(login_page, stop_before, login=login, password="any")
    if "Authorize" in page.text and page.forms:
        page = browser.submit(page, stop_before)
    return page


def sign_in(
    vendor: Vendor, login: str, resource: str | None = FRONT_END_AUDIENCE, client: str | None = None
) -> dict[str, str]:
    """A real sign-in at a front end of the user's: the tokens that the provider issues. Without a resource the access token is
    opaque."""
    client, redirect = client or f"front-end-{secrets.token_hex(4)}", "http://127.0.0.1:9/signed-in"
    vendor.register_client(client, token_endpoint_auth_method="none", redirect_uris=[redirect])
    verifier = secrets.token_urlsafe(40)
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    audience = {} if resource is None else {"resource": resource}
    query = {
        "client_id": client, "redirect_uri": redirect, "response_type": "code", "scope": "openid things.read",
        "code_challenge": challenge, "code_challenge_method": "S256", **audience,
    }  # fmt: skip
    browser = Browser(vendor.trust)
    page = sign_in_at_vendor(browser, browser.get(f"{vendor.issuer}/auth?{urlencode(query)}"), login, redirect)
    code = parse_qs(urlsplit(page.url).query)["code"][0]
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "client_id": client,
        "code_verifier": verifier, **audience,
    }  # fmt: skip
    with urllib.request.urlopen(f"{vendor.issuer}/token", urlencode(form).encode(), timeout=10, context=vendor.trust) as response:
        tokens = json.load(response)
    for name in ("access_token", "id_token", "refresh_token"):
        if name in tokens:
            planted.plant(tokens[name], "user token")
    return tokens


@dataclass
class Consent:
    """One consent session, from the first answer of GetResourceOauth2Token on."""

    caller: Caller
    wat: str
    provider: str
    scopes: list[str] = field(default_factory=lambda: list(SCOPES))
    more: dict[str, Any] = field(default_factory=dict)
    authorization_url: str = ""
    session_uri: str = ""

    def ask(self, **more: Any) -> Answer:
        return self.caller.call(
            "GetResourceOauth2Token",
            workloadIdentityToken=self.wat,
            resourceCredentialProviderName=self.provider,
            scopes=self.scopes,
            oauth2Flow="USER_FEDERATION",
            **self.more | more,
        )

    def begin(self) -> Consent:
        answer = self.ask()
        assert answer.status == 200, f"{answer.status} {answer.error} {answer.body!r}"
        assert "accessToken" not in answer.json, "there is a token already"
        assert answer.json["sessionStatus"] == "IN_PROGRESS"
        self.authorization_url = answer.json["authorizationUrl"]
        self.session_uri = answer.json["sessionUri"]
        return self

    def poll(self) -> Answer:
        return self.ask(sessionUri=self.session_uri)

    def to_the_vendor(self, browser: Browser) -> Page:
        """Through our own page to the vendor's login page."""
        return browser.submit(browser.get(self.authorization_url))

    def to_the_callback(self, browser: Browser, login: str, stop_before: str) -> str:
        """Up to the vendor's redirect to our callback, which is not followed: its URL."""
        return sign_in_at_vendor(browser, self.to_the_vendor(browser), login, stop_before).url

    def agree(self, browser: Browser, login: str) -> Page:
        """The whole way to the return page."""
        return sign_in_at_vendor(browser, self.to_the_vendor(browser), login)

    def complete(self, caller: Caller | None = None, **user: str) -> Answer:
        """CompleteResourceTokenAuth with `userId=` or `userToken=`."""
        return (caller or self.caller).call(
            "CompleteResourceTokenAuth", sessionUri=self.session_uri, userIdentifier=user
        )

    def token(self) -> str:
        answer = self.poll()
        assert answer.status == 200 and "accessToken" in answer.json, f"{answer.status} {answer.body!r}"
        return planted.plant(answer.json["accessToken"], "access token")


def connected_user(
    caller: Caller, workload: str, provider: str, user_id: str, return_url: str, login: str | None = None
) -> Consent:
    """A user whose consent is complete, and the consent session that it came from."""
    wat = workload_token(caller, workload, user_id)
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": return_url}).begin()
    consent.agree(Browser(), login or user_id)
    answer = consent.complete(userId=user_id)
    assert answer.status == 200, f"{answer.status} {answer.error} {answer.body!r}"
    return consent


def stored_token(caller: Caller, wat: str, provider: str, scopes: list[str] | None = None) -> Answer:
    """GetResourceOauth2Token for a user who has agreed before."""
    return caller.call(
        "GetResourceOauth2Token",
        workloadIdentityToken=wat,
        resourceCredentialProviderName=provider,
        scopes=SCOPES if scopes is None else scopes,
        oauth2Flow="USER_FEDERATION",
    )
