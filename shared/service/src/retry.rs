//! Another try of a grant that its provider has refused: D8 keeps its refresh token for seven days, for when the provider was wrong.

use agent_identity_core::connection::{Connection, ConnectionAddress, Health};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::LOSER_PATIENCE;
use agent_identity_core::grant::Principal;
use agent_identity_core::port::Event;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::refresh::{RefreshTerms, Verdict, Want};
use agent_identity_core::store::{Consistency, Key};
use agent_identity_core::{Error, Result};

use crate::Services;
use crate::audit::note;
use crate::connection::{ConnectionShown, no_connection};
use crate::flight::{Turn, due};
use crate::refresh::terms;

impl Services {
    /// Tries a refused grant once more, and says how the connection is then. One that works is left as it is; one that is refused again, or
    /// of which the provider says nothing, stands as before. Cut off, it is tried by the schedule when it is due.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`; `Conflict` where only a new consent helps, or others keep writing it; `Throttling` while its provider's
    /// refreshes are suspended; those of the store.
    pub async fn retry_connection(
        &self,
        principal: &Principal,
        address: &ConnectionAddress,
    ) -> Result<ConnectionShown> {
        self.check_managed(principal, "RetryConnection", address).await?;
        note(|about| about.user = Some(address.user));
        let key = address.key();
        let found: Option<Stored<Connection>> =
            record::get(&*self.ports.store, &key, Consistency::Strong).await?;
        let stored = found.ok_or_else(no_connection)?;
        let provider = self.provider_in_use(&stored.value).await?.ok_or_else(no_connection)?;
        let terms = terms(&provider);
        if let Health::NeedsConsent { reason, .. } = stored.value.health {
            let revived = stored.value.revived(terms).ok_or_else(|| {
                Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "there is nothing to try again with, and only a new consent helps ({}): the refresh token of a refused grant is \
                         kept for 7 days",
                        reason.as_str()
                    ),
                )
            })?;
            if let Some(stop) = self.stopped(&provider) {
                return Err(self.suspended(&provider, stop));
            }
            let (generation, due) = (revived.tokens.generation, due(&key, &revived, terms, self.now()));
            self.ports.store.write(vec![stored.replace(&revived, None, due)?]).await?;
            let want = Want::Replace(generation);
            let renewed = match self.turn(&key, want, terms, LOSER_PATIENCE, || None).await {
                Ok(Turn::Mine(taken)) => {
                    let attempt = self.attempt_again(&provider, taken).await?;
                    attempt.verdict == Verdict::Renewed
                }
                Ok(Turn::Held | Turn::Settled(_)) | Err(_) => false,
            };
            if renewed {
                let event = Event::Recovered { of: address.party(), at: self.now() };
                if let Err(error) = self.ports.events.tell(event).await {
                    tracing::warn!(%error, "that a connection works again could not be announced");
                }
            } else {
                self.refused_again(&key, &stored.value, terms).await?;
            }
        }
        self.show(vec![address.clone()]).await?.into_iter().next().ok_or_else(no_connection)
    }

    /// It stands as before, unless somebody renewed it: since when it needs a consent, and that this was announced.
    async fn refused_again(&self, key: &Key, before: &Connection, terms: RefreshTerms) -> Result<()> {
        let found: Option<Stored<Connection>> =
            record::get(&*self.ports.store, key, Consistency::Strong).await?;
        let Some(stored) = found.filter(|it| it.value.tokens.generation == before.tokens.generation) else {
            return Ok(());
        };
        let value = Connection { health: before.health.clone(), ..stored.value.clone() };
        let due = due(key, &value, terms, self.now());
        self.write_unless_newer(stored.replace(&value, None, due)?).await.map(drop)
    }
}
