//! How providers stand, as this process has heard (D8): the rules are `core::refresh::standing`. In memory alone: each process
//! probes for itself, and one that starts knows nothing. What is asked of the store for a refresh stays what it was.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::refresh::standing::{Cause, Heard, Judgement, Standing, Stop};
use agent_identity_core::{Error, Id, Timestamp, random};

use crate::Services;
use crate::client_credentials::come_back;
use crate::server::misconfigured;
use crate::token_call::unavailable;

/// From so many providers on, those that work are forgotten.
const KNOWN: usize = 10_000;

#[derive(Default)]
pub(crate) struct Standings(Mutex<HashMap<Id<Oauth2Provider>, Standing>>);

impl Standings {
    fn of<T>(&self, provider: &Oauth2Provider, now: Timestamp, ask: impl FnOnce(&mut Standing) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN && !known.contains_key(&provider.id) {
            known.retain(|_, standing| standing.stopped(now).is_some());
        }
        let configured_at = provider.updated_at;
        ask(known.entry(provider.id).or_insert_with(|| Standing::new(configured_at)).of(configured_at))
    }
}

impl Services {
    /// Why no refresh of this provider may be tried now, if so.
    pub(crate) fn stopped(&self, provider: &Oauth2Provider) -> Option<Stop> {
        let now = self.now();
        self.standings.of(provider, now, |standing| standing.stopped(now))
    }

    /// A refresh token is about to be sent.
    ///
    /// # Errors
    /// None may be sent now.
    pub(crate) fn may_send(&self, provider: &Oauth2Provider) -> Result<(), Stop> {
        let now = self.now();
        self.standings.of(provider, now, |standing| standing.send(now))
    }

    /// What a refresh said of its provider. A stop that begins is alarmed, and so is its end.
    pub(crate) fn hears(&self, provider: &Oauth2Provider, heard: Heard) -> Judgement {
        let now = self.now();
        let [jitter] = random::bytes::<1>(&*self.ports.random);
        let (before, judgement, after) = self.standings.of(provider, now, |standing| {
            let before = standing.stop();
            let judgement = standing.hears(heard, now, jitter);
            (before, judgement, standing.stop())
        });
        let cause = |stop: Option<Stop>| stop.map(|stop| stop.cause);
        match (cause(before), cause(after)) {
            (before, Some(after)) if before != Some(after) => {
                tracing::error!(provider = %provider.name, cause = after.as_str(), "the refreshes of a provider are suspended");
                let reason = after.as_str();
                self.ports.events.emit(Event::ProviderSuspended { provider: provider.id, reason, at: now });
            }
            (Some(before), None) => {
                tracing::warn!(provider = %provider.name, cause = before.as_str(), "the refreshes of a provider go on");
            }
            (_, _) => {}
        }
        judgement
    }

    /// What the client of ours is told whose access token has ended meanwhile.
    pub(crate) fn suspended(&self, provider: &Oauth2Provider, stop: Stop) -> Error {
        match stop.cause {
            Cause::Client(code) => misconfigured(
                provider,
                &format!(
                    "the provider answered `{code}`; until it is changed, or the provider takes it again, no token is refreshed"
                ),
            ),
            Cause::Throttled => come_back(stop.until, self.now()),
            Cause::Wave | Cause::Silent => unavailable(provider, stop.cause.as_str()),
        }
    }
}
