//! Names and other short texts that are valid by construction; their limits stand here, with their source
//! (the service model, `contract.md` appendix A).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The conversions by which a record holds a text that is valid by construction.
macro_rules! parsed_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(parsed: $type) -> Self {
                parsed.0
            }
        }
    };
}
pub(crate) use parsed_text;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $min:literal ..= $max:literal, $allowed:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name, if it is valid.
            ///
            /// # Errors
            /// The text says which limit it breaks.
            pub fn parse(text: &str) -> Result<Self, String> {
                let allowed: fn(char) -> bool = $allowed;
                if !($min..=$max).contains(&text.chars().count()) {
                    return Err(format!("must have {} to {} characters", $min, $max));
                }
                if !text.chars().all(allowed) {
                    return Err(format!("must match {}", $pattern));
                }
                Ok(Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        parsed_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// Name of a workload identity (`WorkloadIdentityNameType`).
    WorkloadName, 3..=255,
    |c| c.is_ascii_alphanumeric() || "_.-".contains(c), "[A-Za-z0-9_.-]+"
);
text!(
    /// Name of a credential provider (`CredentialProviderName`).
    ProviderName, 1..=128,
    |c| c.is_ascii_alphanumeric() || "-_".contains(c), "[a-zA-Z0-9\\-_]+"
);
text!(
    /// Name of an authorizer among those of its agent.
    AuthorizerName, 1..=128,
    |c| c.is_ascii_alphanumeric() || "-_".contains(c), "[a-zA-Z0-9\\-_]+"
);
text!(
    /// Name of a tool: what MCP lets one be called (2025-11-25, "Tool Names"), and a segment of a path.
    ToolName, 1..=128,
    |c| c.is_ascii_alphanumeric() || "-_.".contains(c), "[a-zA-Z0-9_.-]+"
);
text!(
    /// Opaque id of a user, vouched for by the caller (`UserIdType`).
    UserId, 1..=128, |_| true, ".*"
);
text!(
    /// What tells the accounts of one user at one provider apart.
    Label, 1..=64,
    |c| c.is_ascii_alphanumeric() || "-_.@+".contains(c), "[a-zA-Z0-9_.@+-]+"
);
text!(
    /// An OAuth2 scope (`ScopeType`; RFC 6749 §3.3 says which characters).
    Scope, 1..=128,
    |c| matches!(c, '\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e'), "[\\x21\\x23-\\x5B\\x5D-\\x7E]+"
);

impl Label {
    const OF_ACCOUNT: &str = "account-";

    /// The label that is one account's alone; the digest is of letters and digits.
    pub(crate) fn of_account(digest: &str) -> Self {
        Self(format!("{}{digest}", Self::OF_ACCOUNT))
    }

    /// Whether it is such a label.
    pub fn is_of_an_account(&self) -> bool {
        self.0.starts_with(Self::OF_ACCOUNT)
    }
}

/// That of a plain call.
impl Default for Label {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limits_of_a_workload_name_are_those_of_the_model() {
        assert!(WorkloadName::parse("ab").is_err());
        assert!(WorkloadName::parse("abc").is_ok());
        assert!(WorkloadName::parse(&"a".repeat(255)).is_ok());
        assert!(WorkloadName::parse(&"a".repeat(256)).is_err());
        assert!(WorkloadName::parse("a b").is_err());
        assert!(WorkloadName::parse("äbc").is_err());
    }

    proptest! {
        #[test]
        fn a_parsed_name_is_the_text_it_came_from(text in "\\PC{0,300}") {
            if let Ok(name) = ProviderName::parse(&text) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!((1..=128).contains(&text.len()));
            }
        }
    }
}
