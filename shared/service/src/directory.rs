//! Records that have a name and an id: a directory row leads from the name to the id, everything else goes by id (D9).

use agent_identity_core::error::ErrorKind;
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{Consistency, DIRECTORY, Key, Kind, Query, Row, StoreError, Write};
use agent_identity_core::tool::Tool;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Services;
use crate::page::{Page, PageRequest};

/// How often a read-modify-write is begun again when others write at the same time.
pub(crate) const ATTEMPTS: usize = 8;

/// A record that is found by name.
pub(crate) trait Named: Serialize + DeserializeOwned + Clone + Send + Sync + Sized + 'static {
    /// The kind of its record.
    const KIND: Kind;
    /// The kind of its directory.
    const NAMES: Kind;
    /// How it is called in messages.
    const WHAT: &'static str;
    /// The kind of the row that stands under its name and goes with it, in one transaction.
    const OWNED: Option<Kind>;

    fn id(&self) -> Id<Self>;
    fn name(&self) -> &str;
}

macro_rules! named {
    ($type:ty, $kind:ident, $names:ident, $what:literal, $owned:expr) => {
        impl Named for $type {
            const KIND: Kind = Kind::$kind;
            const NAMES: Kind = Kind::$names;
            const WHAT: &'static str = $what;
            const OWNED: Option<Kind> = $owned;

            fn id(&self) -> Id<Self> {
                self.id
            }

            fn name(&self) -> &str {
                self.name.as_str()
            }
        }
    };
}

named!(Workload, Workload, WorkloadName, "workload identity", Some(Kind::Authorizer));
named!(Oauth2Provider, Oauth2Provider, Oauth2ProviderName, "OAuth2 credential provider", None);
named!(ApiKeyProvider, ApiKeyProvider, ApiKeyProviderName, "API key credential provider", None);
named!(Tool, Tool, ToolName, "tool", None);

/// A record before and after a change.
#[derive(Clone, Debug)]
pub(crate) struct Changed<T> {
    pub(crate) before: T,
    pub(crate) after: T,
}

/// Why a record was not written, and whether it may be there all the same.
#[derive(Debug)]
pub(crate) struct NotWritten {
    pub(crate) error: Error,
    /// The store could not say what became of the write, nor what is stored now.
    pub(crate) may_be_there: bool,
}

impl From<Error> for NotWritten {
    fn from(error: Error) -> Self {
        Self { error, may_be_there: false }
    }
}

impl From<StoreError> for NotWritten {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<NotWritten> for Error {
    fn from(failed: NotWritten) -> Self {
        failed.error
    }
}

/// Fails unless a record found again by name is still the one found before, and not one recreated in between.
pub(crate) fn same_record<T>(before: Id<T>, now: Id<T>) -> Result<()> {
    if before == now { Ok(()) } else { Err(StoreError::Conflict(0).into()) }
}

pub(crate) fn not_found<T: Named>(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {} named `{name}`", T::WHAT))
}

impl Services {
    /// Reads a record by its id; an id that is not there is dead.
    pub(crate) async fn by_id<T: Named>(
        &self,
        id: Id<T>,
        consistency: Consistency,
    ) -> Result<Option<Stored<T>>> {
        record::get(&*self.ports.store, &Key::single(T::KIND, id.to_string()), consistency).await
    }

    /// The id behind a name.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn id_of<T: Named>(
        &self,
        name: &str,
        consistency: Consistency,
    ) -> Result<Stored<Id<T>>> {
        record::get(&*self.ports.store, &Key::directory(T::NAMES, name), consistency)
            .await?
            .ok_or_else(|| not_found::<T>(name))
    }

    /// Reads a record by its name.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn by_name<T: Named>(&self, name: &str, consistency: Consistency) -> Result<Stored<T>> {
        let entry = self.id_of::<T>(name, consistency).await?;
        let record = Key::single(T::KIND, entry.value.to_string());
        self.caches.led_to.note(T::NAMES, name, record).await;
        self.by_id(entry.value, consistency).await?.ok_or_else(|| not_found::<T>(name))
    }

    /// Stores a new record under its name.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub(crate) async fn create_named<T: Named>(&self, value: &T) -> Result<(), NotWritten> {
        let writes = vec![
            record::create(Key::directory(T::NAMES, value.name()), &value.id(), None)?,
            record::create(Key::single(T::KIND, value.id().to_string()), value, None)?,
        ];
        match self.ports.store.write(writes).await {
            Err(StoreError::Conflict(_)) => Err(Error::new(
                ErrorKind::Conflict,
                format!("the {} `{}` is there already", T::WHAT, value.name()),
            )
            .into()),
            Err(error @ StoreError::Failed(_)) => self.found_again(error, value, 0).await,
            other => Ok(other?),
        }
    }

    /// After a write that failed, which may have been made all the same: looks what is stored. `before` is the version that
    /// was there.
    async fn found_again<T: Named>(
        &self,
        error: StoreError,
        value: &T,
        before: u64,
    ) -> Result<(), NotWritten> {
        let may_be_there = match self.by_id(value.id(), Consistency::Strong).await {
            Ok(Some(now)) if serde_json::to_value(&now.value).ok() == serde_json::to_value(value).ok() => {
                tracing::warn!(%error, name = value.name(), "a write that seemed to fail was made");
                return Ok(());
            }
            Ok(now) => now.map_or(0, |now| now.version) != before,
            Err(_) => true,
        };
        Err(NotWritten { error: error.into(), may_be_there })
    }

    /// Changes a record by its name; `change` may run several times, on what is then stored.
    ///
    /// # Errors
    /// `NotFound`, those of `change`, and `Conflict` when others keep writing.
    pub(crate) async fn update_named<T: Named>(
        &self,
        name: &str,
        mut change: impl FnMut(&T) -> Result<T>,
    ) -> Result<Changed<T>, NotWritten> {
        for _ in 0..ATTEMPTS {
            let stored = self.by_name::<T>(name, Consistency::Strong).await?;
            let changed = change(&stored.value)?;
            match self.ports.store.write(vec![stored.replace(&changed, None, None)?]).await {
                Err(StoreError::Conflict(_)) => continue,
                Err(error @ StoreError::Failed(_)) => {
                    self.found_again(error, &changed, stored.version).await?;
                }
                other => other?,
            }
            return Ok(Changed { before: stored.value, after: changed });
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Deletes a record with its name, and what goes with it; from then on its id is dead, and the name made anew inherits
    /// nothing (D9). Who adds to what it owns writes its row too, so that nothing can slip in between.
    ///
    /// # Errors
    /// `NotFound`, and `Conflict` when others keep writing.
    pub(crate) async fn delete_named<T: Named>(&self, name: &str) -> Result<T> {
        let mut is_contended = false;
        for _ in 0..ATTEMPTS {
            let entry = self.id_of::<T>(name, Consistency::Strong).await?;
            let Some(stored) = self.by_id(entry.value, Consistency::Strong).await? else {
                continue;
            };
            let mut writes = vec![entry.delete(), stored.delete()];
            if let Some(kind) = T::OWNED {
                let owned = self.ports.store.get(&Key::single(kind, name), Consistency::Strong).await?;
                writes.extend(owned.map(|Row { key, version, .. }| Write::Delete { key, version }));
            }
            match self.ports.store.write(writes).await {
                Err(StoreError::Conflict(_)) => is_contended = true,
                Err(error) if self.is_gone_after(&error, &stored.key).await => return Ok(stored.value),
                other => return Ok(other.map(|()| stored.value)?),
            }
        }
        Err(if is_contended { StoreError::Conflict(0).into() } else { not_found::<T>(name) })
    }

    /// One page of records in the order of their names, without those that the reader may not see.
    pub(crate) async fn list_named<T: Named>(
        &self,
        operation: &str,
        request: &PageRequest,
        visible: impl Fn(&str) -> bool,
    ) -> Result<Page<T>> {
        let after = self.page_start(operation, request).await?;
        let query = Query {
            kind: T::NAMES,
            partition: DIRECTORY.to_owned(),
            after,
            limit: request.max_results.saturating_add(1),
        };
        let entries = self.ports.store.query(query).await?;
        let Page { items: entries, next_token } =
            self.page_of(operation, request, entries, |entry| entry.key.sort.clone()).await?;
        let keys = entries
            .iter()
            .filter(|entry| visible(&entry.key.sort))
            .map(|entry| Ok(Key::single(T::KIND, record::parse::<Id<T>>(entry)?.value.to_string())))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.ports.store.batch_get(&keys, Consistency::Strong).await?;
        let items = rows
            .iter()
            .flatten()
            .map(|row| Ok(record::parse::<T>(row)?.value))
            .collect::<Result<Vec<_>>>()?;
        Ok(Page { items, next_token })
    }
}
