//! Where keys come from when memory has none that will do: the store, then the issuer.

use std::sync::Arc;

use agent_identity_core::Clock;
use agent_identity_core::http::HttpClient;
use agent_identity_core::store::Condition;
use tokio::sync::watch;

use super::fetch::fetch;
use super::issuer::Issuer;
use super::issuers::COOL_DOWN;
use super::key_set::Wanted;
use super::shared::{Claim, SharedKeys, as_read, parse_keys};

/// The tiers behind memory.
pub(crate) struct Sources {
    pub(crate) http: Arc<dyn HttpClient>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Option<SharedKeys>,
}

/// What is left to do after the store was asked.
enum Next {
    /// Nothing.
    Done,
    /// Ask the issuer, and keep its answer under this condition, if it is to be kept.
    Ask(Option<Condition>),
}

impl Sources {
    /// Begins to get newer keys of the issuer; the channel closes when that ends. In a task of its own: a caller that goes away
    /// must not undo what others wait for, and what has been counted.
    pub(super) fn begin(self: &Arc<Self>, issuer: &Arc<Issuer>, wanted: Wanted<'_>) -> watch::Receiver<()> {
        let (progress, ended) = watch::channel(());
        let (sources, issuer) = (Arc::clone(self), Arc::clone(issuer));
        let (kid, algorithm, named) = (wanted.kid.map(str::to_owned), wanted.algorithm, wanted.named);
        tokio::spawn(async move {
            let wanted = Wanted { kid: kid.as_deref(), algorithm, named };
            if let Next::Ask(condition) = sources.ask_store(&issuer, wanted, &progress).await {
                sources.ask_issuer(&issuer, condition, progress).await;
            }
        });
        ended
    }

    /// What a token alone names leaves no row, so only the keys of issuers that a record names are shared.
    async fn ask_store(&self, issuer: &Issuer, wanted: Wanted<'_>, progress: &watch::Sender<()>) -> Next {
        let Some(shared) = self.shared.as_ref().filter(|_| issuer.is_trusted()) else {
            return Next::Ask(None);
        };
        let mut condition = None;
        match shared.read(issuer.name()).await {
            Ok(row) => {
                condition = Some(as_read(row.as_ref()));
                let found = row.and_then(|row| parse_keys(&row, self.clock.now()));
                if found.is_some_and(|found| issuer.adopt(found.keys, found.age, self.clock.elapsed())) {
                    progress.send_replace(());
                }
            }
            Err(error) => {
                tracing::warn!(issuer = issuer.name(), %error, "the keys of an issuer cannot be read from the store");
            }
        }
        let said = issuer.read().lookup(wanted, self.clock.elapsed());
        match said {
            Some(said) if said.is_fresh && said.has_key() => return Next::Done,
            // Anybody can make up names of keys: one process asks, for all of them.
            Some(said) if !said.has_key() => {
                if let Claim::Theirs(left) = shared.claim(issuer.name()).await {
                    issuer.rest(self.clock.elapsed().saturating_add(left));
                    return Next::Done;
                }
            }
            // No token can make this happen, and a process does it every five minutes at most: a withdrawn key must stop in all of
            // them, whatever became of the prefetch.
            Some(_) | None => {}
        }
        Next::Ask(condition.filter(|_| shared.writes_keys))
    }

    async fn ask_issuer(&self, issuer: &Issuer, condition: Option<Condition>, progress: watch::Sender<()>) {
        let (fetched_at, asked_at) = (self.clock.now(), self.clock.elapsed());
        issuer.rest(asked_at.saturating_add(COOL_DOWN));
        let fetched = match fetch(&*self.http, issuer.name()).await {
            Ok(fetched) => fetched,
            Err(reason) => return issuer.fail(reason),
        };
        issuer.take(fetched.published.keys.clone(), asked_at);
        // Who waits for the keys does not wait until they are kept.
        drop(progress);
        if let Some((shared, condition)) = self.shared.as_ref().zip(condition)
            && let Err(error) = shared.keep(fetched, fetched_at, condition).await
        {
            tracing::warn!(issuer = issuer.name(), %error, "the keys of an issuer cannot be kept in the store");
        }
    }
}
