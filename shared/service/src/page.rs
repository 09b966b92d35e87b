//! Pages of lists, and the sealed tokens that lead from one to the next.

use agent_identity_core::encoding;
use agent_identity_core::seal::{Context, Purpose};
use agent_identity_core::store::{Kind, MAX_BATCH, Query, Row, Store};
use agent_identity_core::{Error, Result};

use crate::Services;

/// Which page is asked for.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Entries, at most; the wire has checked the operation's own bound.
    pub max_results: usize,
    /// Where the page before ended.
    pub next_token: Option<String>,
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next_token: Option<String>,
}

/// Tells all rows of a partition, in their order.
///
/// # Errors
/// Those of the store, and what `tell` says: then no more are read.
pub(crate) async fn each_row(
    store: &dyn Store,
    kind: Kind,
    partition: &str,
    mut tell: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let mut after = None;
    loop {
        let query = Query { kind, partition: partition.to_owned(), after, limit: MAX_BATCH };
        let rows = store.query(query).await?;
        rows.iter().try_for_each(&mut tell)?;
        if rows.len() < MAX_BATCH {
            return Ok(());
        }
        after = rows.into_iter().next_back().map(|row| row.key.sort);
    }
}

impl Services {
    /// The name after which the page begins.
    ///
    /// # Errors
    /// `Validation` on `nextToken`, when it is not one of ours for this operation.
    pub(crate) async fn page_start(&self, operation: &str, request: &PageRequest) -> Result<Option<String>> {
        let Some(token) = &request.next_token else {
            return Ok(None);
        };
        let wrong = || Error::field("nextToken", "is not a token of this operation; begin again without it");
        let sealed = encoding::unbase64url(token).ok_or_else(wrong)?;
        let context = Context::new(operation, []);
        let name =
            self.ports.sealer.open(Purpose::Page, &context, &sealed).await.map_err(|_broken| wrong())?;
        String::from_utf8(name.to_vec()).map(Some).map_err(|_not_ours| wrong())
    }

    /// As many of these as the page has, which are in the order of their names, and where the next one begins.
    ///
    /// # Errors
    /// Those of the vault.
    pub(crate) async fn page_of<T>(
        &self,
        operation: &str,
        request: &PageRequest,
        mut items: Vec<T>,
        name: impl Fn(&T) -> String,
    ) -> Result<Page<T>> {
        let more = items.len() > request.max_results;
        items.truncate(request.max_results);
        let last = items.last().filter(|_| more).map(name);
        let next_token = match last {
            Some(last) => Some(self.page_end(operation, &last).await?),
            None => None,
        };
        Ok(Page { items, next_token })
    }

    /// The token for the page after the entry called `last`.
    pub(crate) async fn page_end(&self, operation: &str, last: &str) -> Result<String> {
        let context = Context::new(operation, []);
        let sealed = self.ports.sealer.seal(Purpose::Page, &context, last.as_bytes()).await?;
        Ok(encoding::base64url(sealed))
    }
}
