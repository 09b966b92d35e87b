//! What was granted: authorization codes, and families of refresh tokens. Neither is kept in the clear.

use std::collections::HashMap;
use std::time::Duration;

use agent_identity_core::encoding::base64url;
use agent_identity_core::{Secret, Timestamp};
use aws_lc_rs::digest::{SHA256, digest};

/// RFC 6749 §4.1.2 allows ten minutes; a redirect takes seconds.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// What a user allowed a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorization {
    pub client_id: String,
    pub subject: String,
    pub scopes: Vec<String>,
    pub nonce: Option<String>,
    pub signed_in_at: Timestamp,
}

/// How a code must be presented.
#[derive(Clone, Debug)]
pub(super) struct CodeTerms {
    pub redirect_uri: String,
    /// RFC 7636 §4.2, method S256.
    pub code_challenge: String,
}

/// How a code is presented.
#[derive(Clone, Copy)]
pub(super) struct CodePresented<'a> {
    pub code: &'a str,
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    pub code_verifier: &'a str,
}

/// Why a code or refresh token is refused: `invalid_grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GrantRefused {
    /// Never issued, or too old to be remembered.
    #[error("the code or token is unknown")]
    Unknown,
    /// Issued to somebody else.
    #[error("it was issued to another client")]
    OtherClient,
    /// RFC 6749 §4.1.3.
    #[error("the redirect_uri is not the one of the authorization request")]
    OtherRedirectUri,
    /// RFC 7636 §4.6.
    #[error("the code_verifier does not match the code_challenge")]
    WrongVerifier,
    /// The code was not redeemed in time.
    #[error("the code expired")]
    CodeExpired,
    /// RFC 6749 §4.1.2: what it was redeemed for ends too.
    #[error("the code was used before, and its tokens are revoked")]
    CodeReplayed,
    /// RFC 9700 §4.14.2: thief and owner cannot be told apart, so it ends for both.
    #[error("the refresh token was used before, and its family is revoked")]
    RefreshTokenReused,
    /// The family had ended before.
    #[error("the refresh token is revoked")]
    Revoked,
}

type Fingerprint = [u8; 32];

struct Code {
    authorization: Authorization,
    terms: CodeTerms,
    expires_at: Timestamp,
    /// Set by the first use, right or wrong.
    used: bool,
    family: Option<usize>,
}

struct Family {
    authorization: Authorization,
    /// The one token that is good; `None` once revoked.
    current: Option<Fingerprint>,
}

/// All codes and refresh tokens of a provider.
#[derive(Default)]
pub(super) struct Grants {
    codes: HashMap<Fingerprint, Code>,
    families: Vec<Family>,
    /// Every refresh token ever issued, with its family: an old one must be known to be recognised.
    refresh_tokens: HashMap<Fingerprint, usize>,
}

impl Grants {
    /// Keeps `code` as one that `authorization` can be had for.
    pub fn add_code(&mut self, code: &str, authorization: Authorization, terms: CodeTerms, now: Timestamp) {
        let expires_at = now.plus(CODE_LIFE);
        let code = fingerprint(code);
        self.codes.insert(code, Code { authorization, terms, expires_at, used: false, family: None });
    }

    /// Redeems a code, once. `refresh_token` becomes the first of a family.
    pub fn redeem(
        &mut self,
        presented: &CodePresented<'_>,
        refresh_token: Option<&Secret>,
        now: Timestamp,
    ) -> Result<Authorization, GrantRefused> {
        let code = self.codes.get_mut(&fingerprint(presented.code)).ok_or(GrantRefused::Unknown)?;
        if code.authorization.client_id != presented.client_id {
            return Err(GrantRefused::OtherClient);
        }
        if code.used {
            if let Some(family) = code.family.and_then(|family| self.families.get_mut(family)) {
                family.current = None;
            }
            return Err(GrantRefused::CodeReplayed);
        }
        code.used = true;
        if code.expires_at <= now {
            return Err(GrantRefused::CodeExpired);
        }
        if code.terms.redirect_uri != presented.redirect_uri {
            return Err(GrantRefused::OtherRedirectUri);
        }
        if code.terms.code_challenge != code_challenge(presented.code_verifier) {
            return Err(GrantRefused::WrongVerifier);
        }
        let authorization = code.authorization.clone();
        if let Some(token) = refresh_token {
            let (family, token) = (self.families.len(), fingerprint(token.expose()));
            code.family = Some(family);
            self.families.push(Family { authorization: authorization.clone(), current: Some(token) });
            self.refresh_tokens.insert(token, family);
        }
        Ok(authorization)
    }

    /// What `token` stands for, before anything changes. A token that was replaced ends its whole family.
    pub fn refreshable(&mut self, token: &str, client_id: &str) -> Result<Authorization, GrantRefused> {
        let token = fingerprint(token);
        let family = self.refresh_tokens.get(&token).and_then(|family| self.families.get_mut(*family));
        let family = family.ok_or(GrantRefused::Unknown)?;
        if family.authorization.client_id != client_id {
            return Err(GrantRefused::OtherClient);
        }
        match family.current {
            None => Err(GrantRefused::Revoked),
            Some(current) if current != token => {
                family.current = None;
                Err(GrantRefused::RefreshTokenReused)
            }
            Some(_) => Ok(family.authorization.clone()),
        }
    }

    /// Puts `next` in the place of `token`, which [`Self::refreshable`] found good.
    pub fn rotate(&mut self, token: &str, next: &Secret) {
        let Some(index) = self.refresh_tokens.get(&fingerprint(token)).copied() else { return };
        if let Some(family) = self.families.get_mut(index) {
            let next = fingerprint(next.expose());
            family.current = Some(next);
            self.refresh_tokens.insert(next, index);
        }
    }
}

/// RFC 7636 §4.2.
pub(super) fn code_challenge(code_verifier: &str) -> String {
    base64url(fingerprint(code_verifier))
}

fn fingerprint(text: &str) -> Fingerprint {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);
    const GOOD: CodePresented<'_> = CodePresented {
        code: "code",
        client_id: "app",
        redirect_uri: "http://app",
        code_verifier: "verifier",
    };

    fn with_code() -> Grants {
        let mut grants = Grants::default();
        let authorization = Authorization {
            client_id: "app".into(),
            subject: "ada".into(),
            scopes: vec!["openid".into()],
            nonce: None,
            signed_in_at: NOW,
        };
        let terms =
            CodeTerms { redirect_uri: "http://app".into(), code_challenge: code_challenge("verifier") };
        grants.add_code("code", authorization, terms, NOW);
        grants
    }

    fn with_refresh_token() -> Grants {
        let mut grants = with_code();
        grants.redeem(&GOOD, Some(&Secret::new("first")), NOW).unwrap();
        grants
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(code_challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_code_is_good_once_and_a_replay_ends_what_it_gave() {
        let mut grants = with_refresh_token();
        assert_eq!(grants.redeem(&GOOD, None, NOW), Err(GrantRefused::CodeReplayed));
        assert_eq!(grants.refreshable("first", "app"), Err(GrantRefused::Revoked));
    }

    #[test]
    fn a_code_is_good_for_a_minute() {
        let late = NOW.plus(CODE_LIFE);
        assert!(with_code().redeem(&GOOD, None, late.minus(Duration::from_millis(1))).is_ok());
        assert_eq!(with_code().redeem(&GOOD, None, late), Err(GrantRefused::CodeExpired));
    }

    #[test]
    fn a_code_is_good_only_as_it_was_asked_for() {
        for (presented, refused) in [
            (CodePresented { code: "other", ..GOOD }, GrantRefused::Unknown),
            (CodePresented { client_id: "other", ..GOOD }, GrantRefused::OtherClient),
            (CodePresented { redirect_uri: "http://app/", ..GOOD }, GrantRefused::OtherRedirectUri),
            (CodePresented { code_verifier: "other", ..GOOD }, GrantRefused::WrongVerifier),
        ] {
            assert_eq!(with_code().redeem(&presented, None, NOW), Err(refused));
        }
    }

    #[test]
    fn a_wrong_verifier_uses_the_code_up() {
        let mut grants = with_code();
        let _ = grants.redeem(&CodePresented { code_verifier: "guess", ..GOOD }, None, NOW);
        assert_eq!(grants.redeem(&GOOD, None, NOW), Err(GrantRefused::CodeReplayed));
    }

    #[test]
    fn a_refresh_token_is_replaced_by_the_next() {
        let mut grants = with_refresh_token();
        assert!(grants.refreshable("first", "app").is_ok());
        grants.rotate("first", &Secret::new("second"));
        assert_eq!(grants.refreshable("second", "app").unwrap().subject, "ada");
    }

    #[test]
    fn a_reused_refresh_token_ends_its_family() {
        let mut grants = with_refresh_token();
        grants.rotate("first", &Secret::new("second"));
        assert_eq!(grants.refreshable("first", "app"), Err(GrantRefused::RefreshTokenReused));
        assert_eq!(grants.refreshable("second", "app"), Err(GrantRefused::Revoked));
    }

    #[test]
    fn another_client_cannot_use_or_end_a_refresh_token() {
        let mut grants = with_refresh_token();
        assert_eq!(grants.refreshable("first", "other"), Err(GrantRefused::OtherClient));
        assert!(grants.refreshable("first", "app").is_ok());
        assert_eq!(grants.refreshable("made up", "app"), Err(GrantRefused::Unknown));
    }
}
