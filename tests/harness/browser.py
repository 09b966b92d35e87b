"""A browser without a screen: a cookie jar, redirects followed one by one, HTML forms, and the checks that a real
browser makes (`form-action` of the page's content security policy holds for redirects after a form, too)."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin, urlsplit


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.forms.append(Form(named.get("action", ""), named.get("method", "get").lower()))
        elif tag in ("input", "button") and self.forms and named.get("name"):
            self.forms[-1].fields[named["name"]] = named.get("value", "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass
class Page:
    url: str
    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def text(self) -> str:
        """What a person reads."""
        parser = _Forms()
        parser.feed(self.body)
        return " ".join(" ".join(parser.text).split())

    @property
    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.body)
        return [Form(urljoin(self.url, form.action or self.url), form.method, form.fields) for form in parser.forms]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class ContentPolicyBroken(AssertionError):
    """The page's own policy forbids what its form does; a real browser would stop here."""


class Browser:
    """`trust` is for servers whose certificates are of a test's own authority."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self.jar = CookieJar()
        self.visited: list[str] = []
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=trust),
            urllib.request.HTTPCookieProcessor(self.jar),
            _NoRedirect(),
        )

    def _fetch(self, url: str, method: str, body: bytes | None, headers: dict[str, str]) -> Page:
        self.visited.append(url)
        accept = {"Accept": "text/html", "User-Agent": "Mozilla/5.0 (tests)"}
        request = urllib.request.Request(url, data=body, headers=accept | headers, method=method)
        try:
            response = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as not_2xx:
            response = not_2xx
        with response:
            return Page(url, response.status, response.headers, response.read().decode(errors="replace"))

    def _follow(self, page: Page, policy: list[str] | None, stop_before: str | None, origin: str) -> Page:
        hops = 0
        while page.status in (301, 302, 303, 307, 308):
            assert page.status not in (307, 308), f"{page.url} would repeat the form at the next address"
            target = urljoin(page.url, page.headers["Location"])
            check_form_action(policy, origin, target)
            if stop_before and target.startswith(stop_before):
                return Page(target, page.status, page.headers, "")
            hops += 1
            assert hops < 20, f"too many redirects: {self.visited}"
            page = self._fetch(target, "GET", None, {})
        return page

    def get(self, url: str, stop_before: str | None = None) -> Page:
        """Opens `url` and follows redirects; stops in front of the first that begins with `stop_before`."""
        return self._follow(self._fetch(url, "GET", None, {}), None, stop_before, _origin(url))

    def submit(self, page: Page, stop_before: str | None = None, **filled: str) -> Page:
        """Sends the page's only form with its fields, `filled` in, and follows redirects."""
        assert len(page.forms) == 1, f"{page.url} has {len(page.forms)} forms: {page.status} {page.text[:300]}"
        form = page.forms[0]
        policy = form_action(page)
        origin = _origin(page.url)
        check_form_action(policy, origin, form.action)
        data = urlencode(form.fields | filled)
        if form.method == "get":
            answer = self._fetch(f"{form.action}?{data}", "GET", None, {})
        else:
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Referer": page.url}
            if page.headers.get("Referrer-Policy", "").strip() == "no-referrer":
                # Fetch standard: with this policy a form's POST has an opaque origin.
                headers |= {"Origin": "null"}
                del headers["Referer"]
            answer = self._fetch(form.action, "POST", data.encode(), headers)
        return self._follow(answer, policy, stop_before, origin)

    def forget_cookies(self) -> None:
        self.jar.clear()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def form_action(page: Page) -> list[str] | None:
    """The sources of `form-action` in the page's policy; `None` when anything goes."""
    for directive in page.headers.get("Content-Security-Policy", "").split(";"):
        words = directive.split()
        if words and words[0].lower() == "form-action":
            return words[1:]
    return None


def check_form_action(policy: list[str] | None, origin: str, target: str) -> None:
    if policy is None:
        return
    parts = urlsplit(target)
    for source in policy:
        if source == "'self'" and _origin(target) == origin:
            return
        if source in ("*", f"{parts.scheme}:", _origin(target)):
            return
    raise ContentPolicyBroken(f"form-action {' '.join(policy)} of {origin} forbids {target}")
