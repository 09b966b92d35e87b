//! Consent sessions: one run of the authorization-code flow, named by a `sessionUri`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flight::{Ended, Flight, InFlight, Landing, Settlement, Trouble, Wish};
use crate::name::{Label, Scope};
use crate::provider::Oauth2Provider;
use crate::store::{Key, Kind};
use crate::user::UserKey;
use crate::wat::WatId;
use crate::workload::{ReturnUrl, Workload};
use crate::{Id, Timestamp, encoding};

/// How long a session lives: authorization URL, browser and code together (`contract.md` 3.6).
pub const SESSION_LIFE: Duration = Duration::from_secs(600);

/// Begins every `sessionUri` (RFC 9126 §2.2).
pub const SESSION_URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// The name of a session, as the client knows it: a handle of 256 random bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUri(String);

impl SessionUri {
    /// The uri of a handle.
    pub fn from_handle(handle: &str) -> Self {
        Self(format!("{SESSION_URI_PREFIX}{handle}"))
    }

    /// The uri, if it has the model's form (`RequestUri`).
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let handle = text
            .strip_prefix(SESSION_URI_PREFIX)
            .ok_or_else(|| format!("must begin with {SESSION_URI_PREFIX}"))?;
        if text.len() > 1024 || handle.is_empty() {
            return Err("must have 1 to 1024 characters".to_owned());
        }
        if !handle.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c)) {
            return Err(format!("must match {SESSION_URI_PREFIX}[a-zA-Z0-9-._~]+"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the session is stored: under the digest of its name, so that who reads the store cannot use it.
    pub fn key(&self, digest: &dyn crate::port::Digest) -> Key {
        Key::single(Kind::ConsentSession, encoding::hex(&digest.sha256(self.0.as_bytes())))
    }
}

/// A consent session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentSession {
    /// The workload that asked.
    pub workload: Id<Workload>,
    /// The provider.
    pub provider: Id<Oauth2Provider>,
    /// The provider's generation when it was asked (D3).
    pub provider_generation: u32,
    /// The user it is for: only they can complete it.
    pub user: UserKey,
    /// The workload access token that started it (D20).
    pub wat: Id<WatId>,
    /// Scopes to ask for: the union of requested and granted.
    pub scopes: BTreeSet<Scope>,
    /// RFC 8707 resources.
    pub resources: Vec<String>,
    /// Audiences.
    pub audiences: Vec<String>,
    /// The connection's target.
    pub target: String,
    /// The account's label in it.
    #[serde(default)]
    pub label: Label,
    /// Whether another account may take the place of the one that is there (D25).
    #[serde(default)]
    pub replaces_account: bool,
    /// The label under which its tokens are kept, since it was another account than the one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_beside: Option<Label>,
    /// Where the browser goes in the end.
    pub return_to: ReturnTo,
    /// `SessionSecrets`, sealed; base64url.
    pub sealed: String,
    /// When it ends, whatever happens.
    pub expires_at: Timestamp,
    /// SHA-256 of the code that came back, in hexadecimal: a replay of it is told from a replay of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_digest: Option<String>,
    /// How far it is.
    pub stage: Stage,
    /// Who is exchanging the code.
    pub flight: Flight,
}

/// Where the browser goes when the user has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnTo {
    /// A return URL of the workload.
    Url(ReturnUrl),
    /// The built-in page for loopback development.
    BuiltInPage,
}

/// How far a session is. It only moves forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nobody has opened its URL yet.
    Offered,
    /// A browser went on to the provider.
    Bound(Browser),
    /// The browser came back with a code, which waits, sealed, for the user to be confirmed.
    Returned {
        /// The browser.
        browser: Browser,
        /// The code, sealed; base64url.
        code: String,
    },
    /// Its code was exchanged and the connection stored.
    Completed,
    /// It will not complete.
    Failed(Failure),
}

/// The browser that a session is bound to, and what it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browser {
    /// SHA-256 of its cookie's value, in hexadecimal (D12).
    pub cookie: String,
    /// SHA-256 of the `state` that it carries, in hexadecimal.
    pub state: String,
}

/// Why a session will not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The user, or the provider for them, said no.
    AccessDenied,
    /// The provider answered the authorization request with another error.
    ProviderError,
    /// The provider refused the code.
    CodeRefused,
    /// The code was sent, and its answer was lost (D11): it must not be sent again.
    CodeLost,
    /// The code was sent, and the provider asked to wait (D11): whether it has used it is not known, and it is not sent again.
    CodePutOff,
    /// The provider's registration changed in between (D3).
    ProviderChanged,
    /// The user was blocked or signed out in between (D15).
    UserDenied,
}

impl Failure {
    /// What the client is told.
    pub const fn message(self) -> &'static str {
        match self {
            Self::AccessDenied => "the user did not consent at the provider",
            Self::ProviderError => "the provider answered the authorization request with an error",
            Self::CodeRefused => "the provider refused the authorization code; start again",
            Self::CodeLost => {
                "the answer to the code exchange was lost, and a code is sent only once; start again"
            }
            Self::CodePutOff => {
                "the provider asked to wait when it was given the code, and a code is sent only once; start again"
            }
            Self::ProviderChanged => "the credential provider was changed in between; start again",
            Self::UserDenied => "the user was blocked or signed out in between",
        }
    }
}

/// How a turn ends that gives no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The code was not sent: the session stays as it was, to be completed again.
    PutOff,
    /// The session ends.
    Failed(Failure),
}

impl InFlight for ConsentSession {
    type Terms = ();
    type Want = ();
    type Outcome = Outcome;

    fn wish(&self, (): (), (): (), _: Timestamp) -> Wish {
        match self.stage {
            Stage::Returned { .. } => Wish::Patient,
            Stage::Offered | Stage::Bound(_) | Stage::Completed | Stage::Failed(_) => Wish::Settled,
        }
    }

    fn settle(&self, turn: &Ended<'_, Self>) -> Settlement<Self> {
        let mut settled = self.clone();
        match (turn.landing, turn.outcome) {
            (Landing::Holding, Outcome::PutOff) => settled.flight.abort(Trouble::NotSent, None),
            // Whoever took over finds that the code may have been sent.
            (Landing::Fenced, Outcome::PutOff) => return Settlement::Leave,
            (Landing::Holding | Landing::Fenced, Outcome::Failed(failure)) => {
                if !matches!(self.stage, Stage::Returned { .. }) {
                    return Settlement::Leave;
                }
                settled.stage = Stage::Failed(*failure);
                settled.flight.arrive();
            }
        }
        Settlement::Note(settled)
    }

    fn due(&self, (): (), _: Timestamp) -> Option<Timestamp> {
        None
    }

    fn flight(&self) -> &Flight {
        &self.flight
    }

    fn flight_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }

    /// Later than the session, so that an exchange which began in its last moments can still be stored.
    fn row_ends(&self) -> Option<Timestamp> {
        Some(self.expires_at.plus(Duration::from_secs(120)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_uri_is_what_the_model_says() {
        assert!(SessionUri::parse("urn:ietf:params:oauth:request_uri:aZ9-._~").is_ok());
        for wrong in [
            "urn:ietf:params:oauth:request_uri:",
            "urn:ietf:params:oauth:request_uri:a b",
            "urn:ietf:params:oauth:request_uri:a/b",
            "https://x",
            "",
        ] {
            assert!(SessionUri::parse(wrong).is_err(), "{wrong}");
        }
        assert!(SessionUri::parse(&format!("{SESSION_URI_PREFIX}{}", "a".repeat(1024))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_session_uri_is_kept_as_it_is_and_has_nothing_that_a_url_would_escape(text in "\\PC{0,60}", handle in "[a-zA-Z0-9._~%/ -]{0,40}") {
            for text in [text, format!("{SESSION_URI_PREFIX}{handle}")] {
                if let Ok(uri) = SessionUri::parse(&text) {
                    proptest::prop_assert_eq!(uri.as_str(), &text);
                    proptest::prop_assert!(text.is_ascii() && !text.contains([' ', '/', '%', '&', '#']));
                }
            }
        }
    }
}
