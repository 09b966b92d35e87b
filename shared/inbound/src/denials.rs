//! What stands against users (D15): known for as long as rules are, and for at most five minutes where it cannot be renewed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::Result;
use agent_identity_core::denial::{MAX_AGE, UserDenials};
use agent_identity_core::store::{Consistency, Store};
use agent_identity_core::user::UserKey;

use crate::cache::RULES_LIFE;

/// What stands against at most so many users is kept; that it is nothing is kept too.
const MAX_USERS: usize = 10_000;

/// What stands against users, each with the time of `Clock::elapsed` before it was read.
#[derive(Default)]
pub(crate) struct Denials(Mutex<HashMap<UserKey, (Duration, Arc<UserDenials>)>>);

impl Denials {
    /// Of a user whose token is genuine: nobody else is asked about, so that invented ones cost nothing.
    ///
    /// # Errors
    /// Those of the store, once what is known is too old.
    pub(crate) async fn of(
        &self,
        store: &dyn Store,
        user: UserKey,
        now: Duration,
    ) -> Result<Arc<UserDenials>> {
        if let Some(known) = self.known(user, now, RULES_LIFE) {
            return Ok(known);
        }
        let read = match store.get(&UserDenials::key(user), Consistency::Eventual).await {
            Ok(row) => UserDenials::of_row(row.as_ref()),
            Err(error) => return self.known(user, now, MAX_AGE).ok_or_else(|| error.into()),
        };
        // A record that is not understood is not like a store that does not answer: what was known before is not true any more.
        let read = Arc::new(read?);
        self.put(user, &read, now);
        Ok(read)
    }

    /// Whether it is known and fresh.
    pub(crate) fn has(&self, user: UserKey, now: Duration) -> bool {
        self.known(user, now, RULES_LIFE).is_some()
    }

    fn known(&self, user: UserKey, now: Duration, age: Duration) -> Option<Arc<UserDenials>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, denials) = known.get(&user)?;
        (now.saturating_sub(*read_at) < age).then(|| Arc::clone(denials))
    }

    fn put(&self, user: UserKey, denials: &Arc<UserDenials>, read_at: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_USERS && !known.contains_key(&user) {
            known.retain(|_, (earlier, _)| read_at.saturating_sub(*earlier) < RULES_LIFE);
            // All of them genuine, and of the last half minute: forgetting costs a read each.
            if known.len() >= MAX_USERS {
                known.clear();
            }
        }
        known.insert(user, (read_at, Arc::clone(denials)));
    }
}
