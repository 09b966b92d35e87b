//! `GetUsage`: how often credentials were asked for, for who manages workloads and providers.

use agent_identity_core::audit::Day;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::usage::Used;
use agent_identity_core::{Error, ProviderName, Result, WorkloadName};

use crate::Services;
use crate::page::{Page, PageRequest};

/// Most days that are added up.
pub const MAX_DAYS: i64 = 400;

/// Asks how often.
#[derive(Clone, Debug)]
pub struct GetUsage {
    /// Only by this workload.
    pub workload: Option<WorkloadName>,
    /// Only of this provider.
    pub provider: Option<ProviderName>,
    /// The first day; today where it is not set.
    pub from: Option<Day>,
    /// The last day; today where it is not set.
    pub to: Option<Day>,
    /// Which page.
    pub page: PageRequest,
}

impl Action for GetUsage {
    const OPERATION: &'static str = "GetUsage";

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

impl Services {
    /// The sums of these days, by workload, provider and path: those that the reader manages.
    ///
    /// # Errors
    /// `Validation` of the days and of the page's token.
    pub async fn get_usage(&self, authorized: Authorized<'_, GetUsage>) -> Result<Page<Used>> {
        const OPERATION: &str = GetUsage::OPERATION;
        let (principal, GetUsage { workload, provider, from, to, page }) =
            (authorized.principal(), authorized.action());
        let trail = self.ports.trail.as_ref().ok_or_else(|| Error::internal("there is no audit trail"))?;
        let to = to.unwrap_or_else(|| trail.today()).number();
        let from = from.map_or(to, Day::number);
        if from > to {
            return Err(Error::field("from", "must not be after `to`"));
        }
        if to - from >= MAX_DAYS {
            return Err(Error::field(
                "from",
                format!("and `to` must be at most {MAX_DAYS} days, both of them included"),
            ));
        }
        let after = self.page_start(OPERATION, page).await?;
        let total = trail.usage((from..=to).map(Day::from_number)).await?;
        // In the order of the list: no name has a character before a line's end.
        let place = |used: &Used| {
            let of = &used.of;
            format!("{}\n{}\n{}", of.workload, of.provider, of.path.as_str())
        };
        let items = total
            .into_list()
            .filter(|used| {
                let of = &used.of;
                after.as_ref().is_none_or(|after| place(used) > *after)
                    && workload.as_ref().is_none_or(|wanted| wanted.as_str() == of.workload)
                    && provider.as_ref().is_none_or(|wanted| wanted.as_str() == of.provider)
                    // A name that is not known is nobody's but of who manages all.
                    && principal.allows(OPERATION, Role::Admin, Some(&of.workload), Some(&of.provider))
            })
            .collect();
        self.page_of(OPERATION, page, items, place).await
    }
}
