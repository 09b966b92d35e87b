//! Authorization requests on their way through login and consent, each in the one browser that made it.

use std::collections::HashMap;
use std::time::Duration;

use agent_identity_core::Timestamp;
use http::{HeaderMap, HeaderValue, header};

/// How long a user may look at a page.
const INTERACTION_LIFE: Duration = Duration::from_secs(10 * 60);

/// Ports share cookies: the name keeps it apart from those of other servers on 127.0.0.1.
const COOKIE: &str = "quickstart_idp";

/// Who signed in, in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedIn {
    pub subject: String,
    pub at: Timestamp,
}

/// An authorization request that is in order (RFC 6749 §4.1.1), so that what goes wrong now is told to the client.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationRequest {
    pub client_id: String,
    pub client_name: String,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub state: Option<String>,
    pub nonce: Option<String>,
    pub code_challenge: String,
}

/// A request and how far its user has come.
#[derive(Clone, Debug)]
pub(super) struct Interaction {
    pub request: AuthorizationRequest,
    pub user: Option<SignedIn>,
    browser: String,
    expires_at: Timestamp,
}

/// The browsers that were here, and the requests under way.
#[derive(Default)]
pub(super) struct Interactions {
    browsers: HashMap<String, Option<SignedIn>>,
    under_way: HashMap<String, Interaction>,
}

impl Interactions {
    /// Who is signed in with this cookie; `None` for a browser that was never here.
    pub fn browser(&self, cookie: Option<&str>) -> Option<&Option<SignedIn>> {
        self.browsers.get(cookie?)
    }

    /// Remembers a browser under a new cookie.
    pub fn add_browser(&mut self, cookie: String, user: Option<SignedIn>) {
        self.browsers.insert(cookie, user);
    }

    /// Starts `request` in `browser`.
    pub fn begin(
        &mut self,
        id: String,
        browser: &str,
        request: AuthorizationRequest,
        user: Option<SignedIn>,
        now: Timestamp,
    ) {
        self.under_way.retain(|_, interaction| interaction.expires_at > now);
        let expires_at = now.plus(INTERACTION_LIFE);
        self.under_way.insert(id, Interaction { request, user, browser: browser.to_owned(), expires_at });
    }

    /// The request under way, if it is in this browser.
    pub fn get(&self, id: &str, cookie: Option<&str>, now: Timestamp) -> Option<&Interaction> {
        let interaction = self.under_way.get(id)?;
        (cookie == Some(&interaction.browser) && interaction.expires_at > now).then_some(interaction)
    }

    /// The user of a request signed in: its browser gets a new cookie, so that nobody holds one from before.
    pub fn sign_in(&mut self, id: &str, new_cookie: &str, user: &SignedIn) {
        if let Some(interaction) = self.under_way.get_mut(id) {
            self.browsers.remove(&interaction.browser);
            self.browsers.insert(new_cookie.to_owned(), Some(user.clone()));
            interaction.browser = new_cookie.to_owned();
            interaction.user = Some(user.clone());
        }
    }

    /// Ends a request.
    pub fn end(&mut self, id: &str) {
        self.under_way.remove(id);
    }
}

/// The cookie that a browser sent.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// The header that gives a browser its cookie.
pub(super) fn set_cookie(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

    fn begun() -> Interactions {
        let mut interactions = Interactions::default();
        interactions.add_browser("one".into(), None);
        let request = AuthorizationRequest {
            client_id: "app".into(),
            client_name: "App".into(),
            redirect_uri: "http://app".into(),
            scopes: Vec::new(),
            state: None,
            nonce: None,
            code_challenge: String::new(),
        };
        interactions.begin("id".into(), "one", request, None, NOW);
        interactions
    }

    #[test]
    fn a_request_goes_on_only_in_its_own_browser_and_for_ten_minutes() {
        let interactions = begun();
        assert!(interactions.get("id", Some("one"), NOW).is_some());
        assert!(interactions.get("id", Some("two"), NOW).is_none());
        assert!(interactions.get("id", None, NOW).is_none());
        assert!(interactions.get("id", Some("one"), NOW.plus(INTERACTION_LIFE)).is_none());
    }

    #[test]
    fn a_cookie_from_before_the_login_is_worth_nothing_after_it() {
        let mut interactions = begun();
        let ada = SignedIn { subject: "ada".into(), at: NOW };
        interactions.sign_in("id", "new", &ada);
        assert!(interactions.get("id", Some("one"), NOW).is_none());
        assert_eq!(interactions.browser(Some("one")), None);
        assert_eq!(interactions.browser(Some("new")), Some(&Some(ada)));
    }

    #[test]
    fn the_cookie_is_found_among_those_of_other_servers() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; quickstart_idp=x; c=d"));
        assert_eq!(cookie(&headers), Some("x"));
    }
}
