//! Use cases on connections, for who manages them: which there are of a user, a workload or a provider, and how each does.

use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::connection::{Account, Connection, ConnectionAddress, ConnectionGroup, Health};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::{InFlight as _, Trouble};
use agent_identity_core::grant::{Action, Authorized, Principal, Role};
use agent_identity_core::name::Scope;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{
    Condition, Consistency, Key, Kind, MAX_BATCH, Query, Row, StoreError, Write,
};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, ProviderName, Result, Timestamp, WorkloadName};

use crate::Services;
use crate::denial::NamedUser;
use crate::directory::Named;
use crate::page::{Page, PageRequest};
use crate::refresh::terms;

/// Lists connections: those of all that is named.
#[derive(Clone, Debug)]
pub struct ListConnections {
    /// Of this workload.
    pub workload: Option<WorkloadName>,
    /// Of this user.
    pub user: Option<NamedUser>,
    /// At this provider.
    pub provider: Option<ProviderName>,
    /// Which page.
    pub page: PageRequest,
}

impl Action for ListConnections {
    const OPERATION: &'static str = "ListConnections";

    fn role(&self) -> Role {
        Role::Admin
    }

    fn workload(&self) -> Option<&WorkloadName> {
        self.workload.as_ref()
    }

    fn provider(&self) -> Option<&ProviderName> {
        self.provider.as_ref()
    }
}

/// A connection as who manages it sees it: no token, sealed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionShown {
    /// Which.
    pub address: ConnectionAddress,
    /// Its workload's name; `None` once that was deleted: then it serves nobody.
    pub workload: Option<WorkloadName>,
    /// Its provider's name; `None` once that was deleted.
    pub provider: Option<ProviderName>,
    /// Whose account at the provider it is, where the provider says so.
    pub account: Option<Account>,
    /// The scopes that its user was asked for.
    pub asked: BTreeSet<Scope>,
    /// The scopes that the provider granted.
    pub granted: BTreeSet<Scope>,
    /// RFC 8707 resources that it is for.
    pub resources: Vec<String>,
    /// Audiences that it is for.
    pub audiences: Vec<String>,
    /// Whether it works.
    pub health: Health,
    /// When its tokens were obtained.
    pub obtained_at: Timestamp,
    /// When the access token ends, if somebody said.
    pub expires_at: Option<Timestamp>,
    /// Whether there is a refresh token.
    pub refreshable: bool,
    /// When it is refreshed without anybody asking.
    pub next_refresh_at: Option<Timestamp>,
    /// How many refreshes in a row have failed.
    pub failures: u32,
    /// Why the last of them failed.
    pub last_error: Option<Trouble>,
}

/// How many entries are looked at for a page, at most: a filter may leave none of them, and then the page is empty.
const MAX_LOOKED_AT: usize = 1000;

/// The names behind ids, as far as they were asked for.
#[derive(Default)]
struct Names {
    workloads: BTreeMap<String, Option<Workload>>,
    providers: BTreeMap<String, Option<Oauth2Provider>>,
}

impl Names {
    fn workload(&self, address: &ConnectionAddress) -> Option<&Workload> {
        self.workloads.get(&address.workload.to_string())?.as_ref()
    }

    fn provider(&self, address: &ConnectionAddress) -> Option<&Oauth2Provider> {
        self.providers.get(&address.provider.to_string())?.as_ref()
    }

    /// Whether the grants of a principal let it see this connection. One whose workload or provider is gone takes a grant on all.
    fn show(&self, principal: &Principal, operation: &str, address: &ConnectionAddress) -> bool {
        let workload = self.workload(address).map_or("", |workload| workload.name.as_str());
        let provider = self.provider(address).map_or("", |provider| provider.name.as_str());
        principal.allows(operation, Role::Admin, Some(workload), Some(provider))
    }
}

/// Which connections a list is about, as ids.
struct Wanted {
    /// Each is walked in turn.
    groups: Vec<ConnectionGroup>,
    workload: Option<Id<Workload>>,
    provider: Option<Id<Oauth2Provider>>,
}

impl Wanted {
    fn has(&self, address: &ConnectionAddress) -> bool {
        self.workload.is_none_or(|workload| address.workload == workload)
            && self.provider.is_none_or(|provider| address.provider == provider)
    }
}

/// Where a list goes on: in which group, after which entry.
fn place(text: &str) -> Option<(usize, Option<String>)> {
    let (group, after) = text.split_once(' ')?;
    Some((group.parse().ok()?, (!after.is_empty()).then(|| after.to_owned())))
}

impl Services {
    /// The connections of a user, a workload or a provider, or of several of these at once, without those that the caller may
    /// not see. A page may have fewer than were asked for, and another after it.
    ///
    /// # Errors
    /// `Validation` when nothing is named, and on `nextToken`; `NotFound` for an unknown workload or provider.
    pub async fn list_connections(
        &self,
        authorized: Authorized<'_, ListConnections>,
    ) -> Result<Page<ConnectionShown>> {
        const OPERATION: &str = ListConnections::OPERATION;
        let ListConnections { page, .. } = authorized.action();
        let wanted = self.wanted(authorized.action()).await?;
        let (mut group, mut after) = match self.page_start(OPERATION, page).await? {
            Some(text) => {
                place(&text).ok_or_else(|| Error::internal("a page token of ours does not say where"))?
            }
            None => (0, None),
        };
        let (mut found, mut looked_at, mut goes_on) = (Vec::new(), 0, None);
        let mut names = Names::default();
        // Without a filter, one more than the page has says whether there is another.
        let limit = page.max_results.saturating_add(1).min(MAX_BATCH);
        'groups: while let Some(of) = wanted.groups.get(group) {
            loop {
                let query = Query {
                    kind: Kind::ConnectionEntry,
                    partition: of.partition(),
                    after: after.take(),
                    limit,
                };
                let entries = self.ports.store.query(query).await?;
                let is_last = entries.len() < limit;
                let addresses = entries
                    .iter()
                    .map(|entry| Ok(record::parse::<ConnectionAddress>(entry)?.value))
                    .collect::<Result<Vec<_>>>()?;
                self.learn(&mut names, &addresses).await?;
                for address in addresses {
                    let sort = address.to_string();
                    if wanted.has(&address) && names.show(authorized.principal(), OPERATION, &address) {
                        if found.len() == page.max_results {
                            break 'groups;
                        }
                        found.push(address);
                    }
                    looked_at += 1;
                    goes_on = Some(format!("{group} {sort}"));
                    after = Some(sort);
                    if looked_at >= MAX_LOOKED_AT {
                        break 'groups;
                    }
                }
                if is_last {
                    break;
                }
            }
            (group, after) = (group + 1, None);
        }
        let next_token = match (wanted.groups.get(group), goes_on) {
            (Some(_), Some(place)) => Some(self.page_end(OPERATION, &place).await?),
            _ => None,
        };
        Ok(Page { items: self.shown(found, &names).await?, next_token })
    }

    /// One connection.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`.
    pub async fn get_connection(
        &self,
        principal: &Principal,
        address: &ConnectionAddress,
    ) -> Result<ConnectionShown> {
        const OPERATION: &str = "GetConnection";
        let names = self.may_manage(principal, OPERATION, address).await?;
        let shown = self.shown(vec![address.clone()], &names).await?;
        shown.into_iter().next().ok_or_else(no_connection)
    }

    /// Whether the principal may do this to a connection.
    ///
    /// # Errors
    /// `AccessDenied`, which says nothing of whether there is such a connection.
    pub(crate) async fn check_managed(
        &self,
        principal: &Principal,
        operation: &'static str,
        address: &ConnectionAddress,
    ) -> Result<()> {
        self.may_manage(principal, operation, address).await.map(drop)
    }

    /// The names of a connection's workload and provider, if the principal may manage it.
    ///
    /// # Errors
    /// `AccessDenied`, which says nothing of whether there is such a connection.
    async fn may_manage(
        &self,
        principal: &Principal,
        operation: &'static str,
        address: &ConnectionAddress,
    ) -> Result<Names> {
        let mut names = Names::default();
        self.learn(&mut names, std::slice::from_ref(address)).await?;
        if !names.show(principal, operation, address) {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                format!(
                    "{} is not authorized to perform {operation} on this connection: no grant gives it the role admin on its \
                     workload identity and its credential provider",
                    principal.name
                ),
            ));
        }
        Ok(names)
    }

    /// Connections of a user, at most so many, and whether these are all.
    pub(crate) async fn connections_of(
        &self,
        user: &NamedUser,
        limit: usize,
    ) -> Result<(Vec<ConnectionAddress>, bool)> {
        let mut found = Vec::new();
        for user in self.keys_of(user).await?.0 {
            let (kind, partition) = (Kind::ConnectionEntry, ConnectionGroup::User(user).partition());
            // Each key is asked for once, and what is beyond the limit is what the same call finds first the next time.
            let query = Query { kind, partition, after: None, limit: limit.saturating_add(1) };
            for entry in self.ports.store.query(query).await? {
                if found.len() == limit {
                    return Ok((found, false));
                }
                found.push(record::parse::<ConnectionAddress>(&entry)?.value);
            }
        }
        Ok((found, true))
    }

    async fn wanted(&self, action: &ListConnections) -> Result<Wanted> {
        let workload = match &action.workload {
            Some(name) => Some(self.id_of::<Workload>(name.as_str(), Consistency::Strong).await?.value),
            None => None,
        };
        let provider = match &action.provider {
            Some(name) => Some(self.id_of::<Oauth2Provider>(name.as_str(), Consistency::Strong).await?.value),
            None => None,
        };
        // A user has few connections, a workload fewer than a provider that all workloads share.
        let groups = match (&action.user, workload, provider) {
            (Some(user), ..) => self.keys_of(user).await?.0.into_iter().map(ConnectionGroup::User).collect(),
            (None, Some(workload), _) => vec![ConnectionGroup::Workload(workload)],
            (None, None, Some(provider)) => vec![ConnectionGroup::Provider(provider)],
            (None, None, None) => {
                return Err(Error::field(
                    "workloadName",
                    "is required, unless a user (userId, or issuer and subject) or a providerName says which connections",
                ));
            }
        };
        Ok(Wanted { groups, workload, provider })
    }

    /// Reads the workloads and providers of these addresses that are not known yet.
    async fn learn(&self, names: &mut Names, addresses: &[ConnectionAddress]) -> Result<()> {
        let workloads: BTreeSet<String> = addresses.iter().map(|it| it.workload.to_string()).collect();
        let providers: BTreeSet<String> = addresses.iter().map(|it| it.provider.to_string()).collect();
        self.learn_some(&mut names.workloads, workloads).await?;
        self.learn_some(&mut names.providers, providers).await
    }

    async fn learn_some<T: Named>(
        &self,
        known: &mut BTreeMap<String, Option<T>>,
        ids: BTreeSet<String>,
    ) -> Result<()> {
        let missing: Vec<String> = ids.into_iter().filter(|id| !known.contains_key(id)).collect();
        let keys: Vec<Key> = missing.iter().map(|id| Key::single(T::KIND, id.clone())).collect();
        let rows = self.read_all(&keys).await?;
        for (id, row) in missing.into_iter().zip(rows) {
            let record = row.as_ref().map(record::parse::<T>).transpose()?;
            known.insert(id, record.map(|stored| stored.value));
        }
        Ok(())
    }

    async fn read_all(&self, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let mut rows = Vec::with_capacity(keys.len());
        for some in keys.chunks(MAX_BATCH) {
            rows.extend(self.ports.store.batch_get(some, Consistency::Strong).await?);
        }
        Ok(rows)
    }

    /// The same with the names of their workloads and providers.
    pub(crate) async fn show(&self, addresses: Vec<ConnectionAddress>) -> Result<Vec<ConnectionShown>> {
        let mut names = Names::default();
        self.learn(&mut names, &addresses).await?;
        self.shown(addresses, &names).await
    }

    /// What there is to say of these connections; one that went meanwhile is left out.
    async fn shown(&self, addresses: Vec<ConnectionAddress>, names: &Names) -> Result<Vec<ConnectionShown>> {
        let keys: Vec<Key> = addresses.iter().map(ConnectionAddress::key).collect();
        let rows = self.read_all(&keys).await?;
        let stored = rows.iter().map(|row| row.as_ref().map(record::parse::<Connection>).transpose());
        let stored = stored.collect::<Result<Vec<_>>>()?;
        let now = self.now();
        let shown = addresses.into_iter().zip(stored).filter_map(|(address, stored)| {
            let Stored { value: connection, .. } = stored?;
            let provider = names.provider(&address);
            Some(ConnectionShown {
                workload: names.workload(&address).map(|workload| workload.name.clone()),
                provider: provider.map(|provider| provider.name.clone()),
                // A dead one comes due too: then what is left of its tokens is destroyed.
                next_refresh_at: provider
                    .filter(|_| connection.health == Health::Active)
                    .and_then(|provider| connection.due(terms(provider), now)),
                address,
                asked: connection.asked,
                account: connection.account,
                granted: connection.granted,
                resources: connection.resources,
                audiences: connection.audiences,
                health: connection.health,
                obtained_at: connection.tokens.obtained_at,
                expires_at: connection.tokens.expires_at,
                refreshable: connection.tokens.refreshable,
                failures: connection.flight.failures,
                last_error: connection.flight.trouble,
            })
        });
        Ok(shown.collect())
    }

    /// The writes that make the entries of a connection, in the transaction that makes it.
    pub(crate) async fn enter(&self, address: &ConnectionAddress) -> Result<Vec<Write>, StoreError> {
        let keys = address.entries();
        let rows = self.insist(|| self.ports.store.batch_get(&keys, Consistency::Strong)).await?;
        let writes = keys.into_iter().zip(rows).map(|(key, row)| {
            // One that is there is of a connection that somebody deleted by hand, and is good again.
            let condition = row.map_or(Condition::Absent, |row| Condition::Version(row.version));
            record::put(key, condition, address, None, None)
        });
        writes.collect::<Result<_>>().map_err(|error| StoreError::Failed(error.to_string()))
    }
}

pub(crate) fn no_connection() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "there is no such connection; ListConnections has the ids of those that there are",
    )
}
