//! What is lost with a vault key that is (ADR 0036): connections whose tokens nobody can open any more.

use agent_identity_core::connection::{Connection, ConnectionAddress, ConnectionGroup, Reason};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{Consistency, Key, Kind};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Error, Result};

use crate::Services;
use crate::flight::due;
use crate::page::each_row;
use crate::refresh::terms;

/// What a client is told once. It comes again, as it does with any throttling, and finds that a consent is needed.
pub(crate) fn lost() -> Error {
    Error::new(
        ErrorKind::Throttling,
        "the user's tokens were lost with the vault key over them, and the user must consent again; ask again for where",
    )
}

impl Services {
    /// Puts on record that the tokens of a connection are lost, and announces it; unless they open after all, or somebody has
    /// written it meanwhile.
    pub(crate) async fn lose(&self, key: &Key) -> Result<()> {
        let found: Option<Stored<Connection>> =
            record::get(&*self.ports.store, key, Consistency::Strong).await?;
        let Some(stored) = found.filter(|found| !found.value.tokens.sealed.is_empty()) else { return Ok(()) };
        // The connection was read before the key over it: what is lost by that key is not of a consent since. What others are reading at
        // the moment may be from before.
        let held = self.read_user_key(stored.value.user, Consistency::Strong).await?;
        if self.open_with_user_key(&stored.value, held)?.is_some() {
            return Ok(());
        }
        // One whose workload or provider was deleted gives nothing to anybody as it is.
        let Some(provider) = self.provider_in_use(&stored.value).await? else { return Ok(()) };
        let (terms, now) = (terms(&provider), self.now());
        let value = stored.value.with_lost_tokens(now);
        let due = due(key, &value, terms, now);
        if self.write_unless_newer(stored.replace(&value, None, due)?).await? {
            let stored = Stored { version: stored.version.saturating_add(1), value, ..stored };
            self.announce(stored, terms, Reason::KeyLost).await;
        }
        Ok(())
    }

    /// The same for all connections of a user.
    pub(crate) async fn lose_connections_of(&self, user: UserKey) -> Result<()> {
        let (partition, mut keys) = (ConnectionGroup::User(user).partition(), Vec::new());
        each_row(&*self.ports.store, Kind::ConnectionEntry, &partition, |row| {
            keys.push(record::parse::<ConnectionAddress>(row)?.value.key());
            Ok(())
        })
        .await?;
        for key in &keys {
            self.lose(key).await?;
        }
        Ok(())
    }
}
