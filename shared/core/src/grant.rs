//! Who may do what (D1): principals, their grants, and the proof of a passed check.
//!
//! A use case that needs permission takes an [`Authorized`] action, which only [`Principal::authorize`] can make.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::{Error, ProviderName, Result, WorkloadName};

/// What a principal is allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Manages workload identities, providers and everything else of the control plane.
    Admin,
    /// Gets workload access tokens for users whose JWT it holds, and for none; completes consents with such a JWT.
    MintJwt,
    /// Gets workload access tokens for users it names itself, and completes consents in their name.
    MintUserid,
    /// Lets tools be called with a credential that it does not see.
    Use,
    /// Reads tokens and API keys.
    Read,
}

impl Role {
    /// All of them, as the default key pair of a loopback `serve` has them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::MintJwt, Self::MintUserid, Self::Use, Self::Read];

    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::MintJwt => "mint-jwt",
            Self::MintUserid => "mint-userid",
            Self::Use => "use",
            Self::Read => "read",
        }
    }
}

/// A name with `*` for any run of characters, also none. Nothing else is special.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that matches everything.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some((_, after)) = rest.split_once(part) else {
                return false;
            };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// One grant: these roles, on these operations, workloads and providers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What it allows to be.
    pub roles: Vec<Role>,
    /// On operations whose name matches.
    pub operation: Pattern,
    /// On workloads whose name matches.
    pub workload: Pattern,
    /// On providers whose name matches.
    pub provider: Pattern,
}

impl Grant {
    /// All roles on everything.
    pub fn everything() -> Self {
        Self {
            roles: Role::ALL.to_vec(),
            operation: Pattern::any(),
            workload: Pattern::any(),
            provider: Pattern::any(),
        }
    }

    /// From its text form: `ROLE[,ROLE…] [operation=PATTERN] [workload=PATTERN] [provider=PATTERN]`.
    ///
    /// # Errors
    /// The text says which part is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let roles = words.next().ok_or("a grant begins with its roles")?;
        let roles = roles
            .split(',')
            .map(|name| {
                Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or_else(|| {
                    format!("`{name}` is no role; the roles are {}", Role::ALL.map(Role::as_str).join(", "))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut grant = Self { roles, ..Self::everything() };
        for word in words {
            match word.split_once('=') {
                Some(("operation", pattern)) => grant.operation = pattern.into(),
                Some(("workload", pattern)) => grant.workload = pattern.into(),
                Some(("provider", pattern)) => grant.provider = pattern.into(),
                _ => return Err(format!("`{word}` is none of operation=…, workload=…, provider=…")),
            }
        }
        Ok(grant)
    }

    fn allows(&self, operation: &str, role: Role, workload: Option<&str>, provider: Option<&str>) -> bool {
        self.roles.contains(&role)
            && self.operation.matches(operation)
            && workload.is_none_or(|name| self.workload.matches(name))
            && provider.is_none_or(|name| self.provider.matches(name))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","))?;
        for (name, pattern) in
            [("operation", &self.operation), ("workload", &self.workload), ("provider", &self.provider)]
        {
            if pattern.0 != "*" {
                write!(f, " {name}={}", pattern.0)?;
            }
        }
        Ok(())
    }
}

/// Whoever signed the request, with the grants stored for them. Default: none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// How it is called in logs and audit: `access-key/NAME`, or a role's ARN.
    pub name: String,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// Something that needs permission.
pub trait Action {
    /// The operation's name on the wire.
    const OPERATION: &'static str;

    /// The role that it takes.
    fn role(&self) -> Role;

    /// The workload that it concerns; `None` when it concerns none in particular.
    fn workload(&self) -> Option<&WorkloadName> {
        None
    }

    /// Whether it concerns every workload: then it takes a grant on all of them.
    fn concerns_all_workloads(&self) -> bool {
        false
    }

    /// Whether it concerns every provider: then it takes a grant on all of them.
    fn concerns_all_providers(&self) -> bool {
        false
    }

    /// The provider that it concerns; `None` when it concerns none in particular.
    fn provider(&self) -> Option<&ProviderName> {
        None
    }
}

/// An action together with the proof that its principal may do it.
#[derive(Debug)]
pub struct Authorized<'p, A> {
    action: A,
    principal: &'p Principal,
}

impl<'p, A> Authorized<'p, A> {
    /// What may be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// What may be done, by value.
    pub fn into_action(self) -> A {
        self.action
    }

    /// Who does it.
    pub fn principal(&self) -> &'p Principal {
        self.principal
    }
}

impl Principal {
    /// The access check: some one grant must allow the role, the operation, the workload and the provider together.
    ///
    /// # Errors
    /// `AccessDenied`, naming the principal and what it lacks.
    pub fn authorize<A: Action>(&self, action: A) -> Result<Authorized<'_, A>> {
        let (role, workload) = (action.role(), action.workload().map(WorkloadName::as_str));
        let provider = action.provider().map(ProviderName::as_str);
        let allowed = self.grants.iter().any(|grant| {
            grant.allows(A::OPERATION, role, workload, provider)
                && (!action.concerns_all_workloads() || grant.workload == Pattern::any())
                && (!action.concerns_all_providers() || grant.provider == Pattern::any())
        });
        if allowed {
            return Ok(Authorized { action, principal: self });
        }
        let on = [
            action.workload().map(|name| format!(" on workload identity `{name}`")),
            action.concerns_all_workloads().then(|| " on all workload identities".to_owned()),
            action.provider().map(|name| format!(" on credential provider `{name}`")),
            action.concerns_all_providers().then(|| " on all credential providers".to_owned()),
        ];
        Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "{} is not authorized to perform {}{}: no grant gives it the role {}",
                self.name,
                A::OPERATION,
                on.into_iter().flatten().collect::<String>(),
                action.role().as_str(),
            ),
        ))
    }

    /// Whether some grant of this role and operation is for every provider. Naming a secret or a key that somebody else keeps
    /// takes that much (D2): whoever may edit one provider only could have the secret sent to an endpoint of their own.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn authorize_naming_secrets(&self, operation: &str, role: Role) -> Result<()> {
        if self.allows_on_all_providers(operation, role) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "{} is not authorized to name an external secret or key in {operation}: it takes the role {} on all providers",
                self.name,
                role.as_str()
            ),
        ))
    }

    /// Whether some grant of this role and operation is for every provider.
    pub fn allows_on_all_providers(&self, operation: &str, role: Role) -> bool {
        self.grants.iter().any(|grant| {
            grant.roles.contains(&role)
                && grant.operation.matches(operation)
                && grant.provider == Pattern::any()
        })
    }

    /// The check behind [`Principal::authorize`], also for leaving out of a list what its reader may not see.
    pub fn allows(
        &self,
        operation: &str,
        role: Role,
        workload: Option<&str>,
        provider: Option<&str>,
    ) -> bool {
        self.grants.iter().any(|grant| grant.allows(operation, role, workload, provider))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Read(WorkloadName, ProviderName);

    impl Action for Read {
        const OPERATION: &'static str = "GetResourceApiKey";

        fn role(&self) -> Role {
            Role::Read
        }

        fn workload(&self) -> Option<&WorkloadName> {
            Some(&self.0)
        }

        fn provider(&self) -> Option<&ProviderName> {
            Some(&self.1)
        }
    }

    fn read(workload: &str, provider: &str) -> Read {
        Read(WorkloadName::parse(workload).unwrap(), ProviderName::parse(provider).unwrap())
    }

    fn principal(grants: &[&str]) -> Principal {
        let grants = grants.iter().map(|grant| Grant::parse(grant).unwrap()).collect();
        Principal { name: "access-key/test".to_owned(), grants }
    }

    #[test]
    fn d1_a_principal_without_grants_may_do_nothing() {
        assert!(principal(&[]).authorize(read("agent", "slack")).is_err());
    }

    #[test]
    fn d1_one_grant_must_allow_all_of_it() {
        let principal =
            principal(&["read workload=agent-a provider=slack", "read workload=agent-b provider=github"]);
        assert!(principal.authorize(read("agent-a", "slack")).is_ok());
        assert!(principal.authorize(read("agent-a", "github")).is_err());
        assert!(principal.authorize(read("agent-b", "slack")).is_err());
    }

    #[test]
    fn d1_roles_and_operations_restrict() {
        assert!(principal(&["admin,use"]).authorize(read("agent", "slack")).is_err());
        assert!(
            principal(&["read operation=GetResourceOauth2Token"]).authorize(read("agent", "slack")).is_err()
        );
        assert!(principal(&["read operation=Get*"]).authorize(read("agent", "slack")).is_ok());
    }

    #[test]
    fn d1_what_concerns_every_workload_takes_a_grant_on_all_of_them() {
        #[derive(Debug)]
        struct Everywhere;
        impl Action for Everywhere {
            const OPERATION: &'static str = "BlockUser";

            fn role(&self) -> Role {
                Role::Admin
            }

            fn concerns_all_workloads(&self) -> bool {
                true
            }
        }
        assert!(principal(&["admin"]).authorize(Everywhere).is_ok());
        assert!(principal(&["admin provider=x"]).authorize(Everywhere).is_ok());
        for less in [
            "admin workload=a*",
            "admin workload=**x",
            "mint-jwt,mint-userid,use,read",
            "admin operation=Get*",
        ] {
            let refused = principal(&[less]).authorize(Everywhere).unwrap_err();
            assert!(refused.message().contains("on all workload identities"), "{refused}");
        }
    }

    #[test]
    fn d2_naming_a_secret_takes_a_grant_on_all_providers() {
        let may = |grant: &str| principal(&[grant]).authorize_naming_secrets("CreateX", Role::Admin).is_ok();
        assert!(may("admin") && may("admin workload=agent-*"));
        assert!(!may("admin provider=evil*") && !may("read") && !may("admin operation=Get*"));
    }

    #[test]
    fn a_star_matches_any_run_and_the_rest_is_literal() {
        let matches = |pattern: &str, text: &str| Pattern::from(pattern).matches(text);
        assert!(matches("*", "") && matches("a*c", "abbc") && matches("a*b*c", "aXbYbc"));
        assert!(!matches("a*c", "ab") && !matches("a.c", "abc") && !matches("", "a") && matches("", ""));
        assert!(!matches("ab*ba", "aba"), "prefix and suffix may not overlap");
    }

    #[test]
    fn a_grant_that_is_no_grant_says_why() {
        assert!(Grant::parse("root").unwrap_err().contains("the roles are"));
        assert!(Grant::parse("read agent=x").unwrap_err().contains("workload=…"));
    }

    proptest! {
        #[test]
        fn a_grant_round_trips_through_its_text(workload in "[a-z*]{1,8}", provider in "[a-z*]{1,8}") {
            let grant = Grant { workload: workload.as_str().into(), provider: provider.as_str().into(), ..Grant::everything() };
            prop_assert_eq!(Grant::parse(&grant.to_string()), Ok(grant));
        }

        #[test]
        fn a_pattern_without_a_star_matches_itself_only(pattern in "[a-z]{0,6}", text in "[a-z]{0,6}") {
            prop_assert_eq!(Pattern::from(pattern.as_str()).matches(&text), pattern == text);
        }
    }
}
