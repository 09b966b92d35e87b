//! A provider, as refresh tokens see it. Tokens are numbers, in the order in which they were issued.

use agent_identity_core::refresh::RefreshTraits;

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Tokens, with this refresh token.
    Tokens(u32),
    /// `invalid_grant`.
    InvalidGrant,
    /// It asks to wait, and did nothing.
    Throttled,
}

/// One user's grant there.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The refresh token issued last.
    pub newest: u32,
    /// The first one of the consent that counts; tokens before it are of consents before.
    pub family: u32,
    /// When tokens were superseded: those that somebody may still send.
    pub superseded: Vec<(u32, i64)>,
    /// Nothing of it is taken any more.
    pub dead: bool,
}

impl Provider {
    pub fn new() -> Self {
        Self { newest: 1, family: 1, superseded: Vec::new(), dead: false }
    }

    /// A refresh. `true`: it looked like a stolen token, and the whole grant was ended (RFC 9700 §4.14.2).
    pub fn refresh(&mut self, token: u32, now: i64, traits: RefreshTraits) -> (Reply, bool) {
        if !self.takes(token, now, traits) {
            let reuse = !self.dead;
            self.dead = true;
            return (Reply::InvalidGrant, reuse);
        }
        if !traits.rotates {
            return (Reply::Tokens(token), false);
        }
        if self.superseded_at(token).is_none() {
            self.superseded.push((token, now));
        }
        // Within the grace a token that was superseded gives a newer one, which supersedes all before it.
        if token != self.newest && self.superseded_at(self.newest).is_none() {
            self.superseded.push((self.newest, now));
        }
        self.newest += 1;
        (Reply::Tokens(self.newest), false)
    }

    /// Whether it would take this token.
    pub fn takes(&self, token: u32, now: i64, traits: RefreshTraits) -> bool {
        if self.dead || token < self.family {
            return false;
        }
        let grace = traits.grace.map_or(0, |grace| i64::try_from(grace.as_secs()).unwrap());
        !traits.rotates || self.superseded_at(token).is_none_or(|at| now - at < grace)
    }

    fn superseded_at(&self, token: u32) -> Option<i64> {
        self.superseded.iter().find(|(superseded, _)| *superseded == token).map(|(_, at)| *at)
    }

    /// The user consents again: a new grant.
    pub fn consent(&mut self) -> u32 {
        self.newest += 1;
        *self = Self { newest: self.newest, family: self.newest, superseded: Vec::new(), dead: false };
        self.newest
    }
}
