//! Reading the trail: for export, and for whoever verifies it.

use agent_identity_core::audit::{Day, Link, SignedHead};
use agent_identity_core::store::Kind;
use agent_identity_core::{Error, Result, record};

use super::Trail;
use crate::page::each_row;

/// What is in the trail.
#[derive(Clone, Debug)]
pub enum Found {
    /// A link of a chain, where a link of this chain and number belongs.
    Link(Link),
    /// How far a chain had come.
    Head(SignedHead),
    /// A row that is not what its place says: where, and why.
    Unreadable(String),
}

impl Trail {
    /// The day that new chains are of.
    pub fn today(&self) -> Day {
        Day::of(self.now())
    }

    /// Tells all of a day: links, those of a chain in their order, then heads.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(&self, day: Day, mut tell: impl FnMut(Found)) -> Result<()> {
        for partition in day.partitions() {
            each_row(&*self.store, Kind::Audit, &partition, |row| {
                tell(match record::parse::<Link>(row) {
                    Ok(stored) if stored.value.key(day) == row.key => Found::Link(stored.value),
                    Ok(_) => Found::Unreadable(format!("{} holds another link", row.key.sort)),
                    Err(error) => Found::Unreadable(format!("{}: {error}", row.key.sort)),
                });
                Ok(())
            })
            .await?;
        }
        each_row(&*self.store, Kind::AuditHead, &day.undivided(), |row| {
            tell(match record::parse::<SignedHead>(row) {
                Ok(stored) if stored.value.head.key(day) == row.key => Found::Head(stored.value),
                Ok(_) => Found::Unreadable(format!("the head of {} is another's", row.key.sort)),
                Err(error) => Found::Unreadable(format!("the head of {}: {error}", row.key.sort)),
            });
            Ok(())
        })
        .await
    }

    /// Whether the signature of a head is ours; `None` where this process has no key to know it by.
    ///
    /// # Errors
    /// When whoever has the key does not say.
    pub async fn holds(&self, signed: &SignedHead) -> Result<Option<bool>> {
        let Some(signer) = self.terms.signing.signer() else { return Ok(None) };
        let holds = signer.holds(&signed.head.framed(), &signed.signature()).await;
        holds.map(Some).map_err(Error::internal)
    }
}
