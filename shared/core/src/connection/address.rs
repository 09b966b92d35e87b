//! Which connection, and the entries under which it is found by its user, its workload and its provider.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Connection;
use crate::Id;
use crate::port::Party;
use crate::provider::Oauth2Provider;
use crate::store::{Key, Kind};
use crate::user::UserKey;
use crate::workload::Workload;

/// Which connection. Its text, `WORKLOAD.USER.PROVIDER.TARGET`, is the connection's id on the wire: ids and no names (D9).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionAddress {
    /// As [`Connection::workload`].
    pub workload: Id<Workload>,
    /// As [`Connection::user`].
    pub user: UserKey,
    /// As [`Connection::provider`].
    pub provider: Id<Oauth2Provider>,
    /// As [`Connection::target`].
    pub target: String,
}

/// What connections are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionGroup {
    /// All of a user.
    User(UserKey),
    /// All of a workload.
    Workload(Id<Workload>),
    /// All at a provider.
    Provider(Id<Oauth2Provider>),
}

impl ConnectionGroup {
    /// The partition of its entries, whose sort keys are the texts of addresses.
    pub fn partition(self) -> String {
        match self {
            Self::User(user) => format!("user#{user}"),
            Self::Workload(workload) => format!("workload#{workload}"),
            Self::Provider(provider) => format!("provider#{provider}"),
        }
    }
}

impl ConnectionAddress {
    /// The address with this text; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '.');
        let (workload, user, provider) = (parts.next()?, parts.next()?, parts.next()?);
        let target = parts.next().filter(|target| !target.is_empty())?;
        Some(Self {
            workload: Id::parse(workload)?,
            user: UserKey::parse(user)?,
            provider: Id::parse(provider)?,
            target: target.to_owned(),
        })
    }

    /// The account's label: its target without the digest that resources and audiences add ([`super::ConnectionTarget::text`]).
    pub fn label(&self) -> &str {
        self.target.split_once('#').map_or(&self.target, |(label, _)| label)
    }

    /// Whose it is.
    pub const fn party(&self) -> Party {
        Party { workload: self.workload, provider: self.provider, user: self.user }
    }

    /// Where the connection is stored.
    pub fn key(&self) -> Key {
        Connection::key(self.workload, self.user, self.provider, &self.target)
    }

    /// The rows by which it is found. They are there exactly while the connection is: both are made, and deleted, in one
    /// transaction. A refresh does not touch them.
    pub fn entries(&self) -> [Key; 3] {
        let groups = [
            ConnectionGroup::User(self.user),
            ConnectionGroup::Workload(self.workload),
            ConnectionGroup::Provider(self.provider),
        ];
        let sort = self.to_string();
        groups.map(|group| Key::of(Kind::ConnectionEntry, group.partition(), sort.clone()))
    }
}

impl fmt::Display for ConnectionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, user, provider, target } = self;
        write!(f, "{workload}.{user}.{provider}.{target}")
    }
}

impl Connection {
    /// Which one it is.
    pub fn address(&self) -> ConnectionAddress {
        let Self { workload, user, provider, target, .. } = self;
        ConnectionAddress { workload: *workload, user: *user, provider: *provider, target: target.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_label_is_what_stands_before_resources_and_audiences() {
        let address = |target: &str| ConnectionAddress {
            workload: Id::from_bytes([1; 16]),
            user: UserKey::from_digest([2; 32]),
            provider: Id::from_bytes([3; 16]),
            target: target.to_owned(),
        };
        for target in ["default", "default#0a1b"] {
            assert_eq!(address(target).label(), "default", "{target}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_of_one_address(workload: [u8; 16], user: [u8; 32], provider: [u8; 16], target in ".{1,20}") {
            let address = ConnectionAddress {
                workload: Id::from_bytes(workload),
                user: UserKey::from_digest(user),
                provider: Id::from_bytes(provider),
                target,
            };
            prop_assert_eq!(ConnectionAddress::parse(&address.to_string()), Some(address));
        }

        #[test]
        fn what_is_none_is_refused(text in ".{0,200}") {
            if let Some(address) = ConnectionAddress::parse(&text) {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
