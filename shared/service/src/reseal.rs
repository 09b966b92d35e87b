//! The sweep after a rotation: what older versions of the vault keys have sealed is sealed under the current ones (ADR 0029).

use agent_identity_core::Result;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::seal::Purpose;
use agent_identity_core::store::MAX_BATCH;

use crate::Services;
use crate::user_key::{Moved, SHARDS};

/// Reseals a page of users' keys, and with the first page what there are few of: access keys, and secrets and signing keys where their
/// store is ours.
#[derive(Clone, Debug)]
pub struct ResealTokenVault {
    /// Where the page before ended; none for the first. A sweep that was cut off begins anew: what it did is not found again.
    pub from: Option<SweepPlace>,
}

impl Action for ResealTokenVault {
    const OPERATION: &'static str = "ResealTokenVault";

    fn role(&self) -> Role {
        Role::Admin
    }
}

/// Where a sweep is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepPlace {
    version: u32,
    shard: u8,
    after: Option<String>,
}

/// What a page of a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResealedPage {
    /// How many values are sealed under the current version now that were not.
    pub resealed: usize,
    /// How many are lost, with a vault key that is (ADR 0036): whose users must consent again is on record, and announced.
    pub lost: usize,
    /// How many could not be, and why is in the log; another sweep finds them again.
    pub left: usize,
    /// Where the next page begins; none when this was the last.
    pub next: Option<SweepPlace>,
}

impl Services {
    /// Reseals what one page has. No read or write of others fails meanwhile, and none is lost.
    ///
    /// # Errors
    /// Those of the store and of the key over the vault keys. What was done stays done.
    pub async fn reseal_token_vault(
        &self,
        authorized: Authorized<'_, ResealTokenVault>,
    ) -> Result<ResealedPage> {
        let versions = self.ports.sealer.key_versions(Purpose::Vault).await?;
        let older = versions.split_last().map(|(_current, older)| older).unwrap_or_default();
        let mut page = ResealedPage::default();
        let place = match authorized.action().from.clone() {
            Some(place) => Some(place),
            None => {
                (page.resealed, page.lost) = self.reseal_access_keys().await?;
                for resealed in [self.ports.secrets.reseal().await, self.ports.signing_keys.reseal().await] {
                    match resealed {
                        Ok(resealed) => page.resealed += resealed,
                        Err(error) => {
                            tracing::warn!(%error, "secrets or signing keys could not be resealed");
                            page.left += 1;
                        }
                    }
                }
                older.first().map(|version| SweepPlace { version: *version, shard: 0, after: None })
            }
        };
        let Some(place) = place else { return Ok(page) };
        let users = self.users_under(place.version, place.shard, place.after.clone()).await?;
        for user in &users {
            match self.reseal_user_key(place.version, *user).await {
                Ok(Moved::Resealed) => page.resealed += 1,
                Ok(Moved::Lost) => page.lost += 1,
                Ok(Moved::Stale) => {}
                Ok(Moved::Contended) => page.left += 1,
                Err(error) if error.kind() == ErrorKind::Throttling => return Err(error),
                Err(error) => {
                    // One key that does not unwrap must not keep the sweep from all after it.
                    tracing::warn!(%user, %error, "a user key could not be resealed");
                    page.left += 1;
                }
            }
        }
        page.next = match users.last() {
            Some(last) if users.len() == MAX_BATCH => {
                Some(SweepPlace { after: Some(last.to_string()), ..place })
            }
            _ => after(older, place),
        };
        Ok(page)
    }
}

/// The shard after the one at `place`, or the version after it.
fn after(older: &[u32], place: SweepPlace) -> Option<SweepPlace> {
    let SweepPlace { version, shard, .. } = place;
    if shard.saturating_add(1) < SHARDS {
        return Some(SweepPlace { version, shard: shard.saturating_add(1), after: None });
    }
    let next = older.iter().find(|older| **older > version)?;
    Some(SweepPlace { version: *next, shard: 0, after: None })
}
