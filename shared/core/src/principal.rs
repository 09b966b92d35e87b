//! Principals of IAM: who calls where AWS verifies signatures, each with its stored grants (D1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::grant::Principal;
use crate::name::parsed_text;

/// The longest ARN that is looked at, in bytes: what a row's key holds.
const MAX_ARN: usize = 1024;

/// The ARN under which the grants of an IAM principal are stored, valid by construction.
///
/// A session of a role has the ARN `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`, and is reduced to its role,
/// `arn:aws:iam::ACCOUNT:role/ROLE`: every session of a role has the role's grants. **The path of a role is not in the ARN of
/// its sessions**, so that it is left out here too: `role/team/deployer` and `role/deployer` are one principal. No two
/// roles of an account differ in their path only, so that this is exact. Users keep their path: it is in the ARN that
/// they call with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalArn(String);

impl PrincipalArn {
    /// The principal that this ARN of IAM or STS stands for.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "must be the ARN of a role, a role's session, a user, a federated user or an account's root";
        if text.len() > MAX_ARN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FORM.to_owned());
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, resource] = parts.as_slice() else {
            return Err(FORM.to_owned());
        };
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_partition = *partition == "aws" || partition.starts_with("aws-");
        if !is_account || !is_partition {
            return Err(FORM.to_owned());
        }
        let names: Vec<&str> = resource.split('/').collect();
        if !names.iter().all(|name| is_name(name)) {
            return Err(FORM.to_owned());
        }
        match (*service, names.as_slice()) {
            ("sts", ["assumed-role", role, _]) | ("iam", ["role", .., role]) => {
                Ok(Self(format!("arn:{partition}:iam::{account}:role/{role}")))
            }
            ("iam", ["user", _, ..] | ["root"]) | ("sts", ["federated-user", _]) => Ok(Self(text.to_owned())),
            _ => Err(FORM.to_owned()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The characters of IAM's names and paths, and of session names, which may be e-mail addresses.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*?:".contains(&byte))
}

parsed_text!(PrincipalArn);

impl fmt::Display for PrincipalArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The grants of an IAM principal, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPrincipal {
    /// Its ARN as its name, and its grants.
    pub principal: Principal,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reduced(text: &str) -> String {
        PrincipalArn::parse(text).unwrap().to_string()
    }

    #[test]
    fn d1_a_session_is_reduced_to_its_role_and_a_role_loses_its_path() {
        let role = "arn:aws:iam::123456789012:role/deployer";
        assert_eq!(reduced("arn:aws:sts::123456789012:assumed-role/deployer/ada@example.com"), role);
        assert_eq!(reduced("arn:aws:sts::123456789012:assumed-role/deployer/i-0123"), role);
        assert_eq!(reduced("arn:aws:iam::123456789012:role/team/a/deployer"), role);
        assert_eq!(reduced(role), role);
        assert_eq!(
            reduced("arn:aws-cn:sts::123456789012:assumed-role/deployer/x"),
            "arn:aws-cn:iam::123456789012:role/deployer"
        );
    }

    #[test]
    fn d1_other_principals_are_what_they_are() {
        for arn in [
            "arn:aws:iam::123456789012:user/ada",
            "arn:aws:iam::123456789012:user/team/ada",
            "arn:aws:iam::123456789012:root",
            "arn:aws:sts::123456789012:federated-user/ada",
        ] {
            assert_eq!(reduced(arn), arn);
        }
    }

    #[test]
    fn what_is_no_principal_is_refused() {
        for text in [
            "",
            "ada",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role//x",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::1234:role/x",
            "arn:aws:iam::123456789012:group/x",
            "arn:aws:iam:us-east-1:123456789012:role/x",
            "arn:evil:iam::123456789012:role/x",
            "arn:aws:s3::123456789012:role/x",
            "arn:aws:sts::123456789012:assumed-role/x",
            "arn:aws:sts::123456789012:assumed-role/x/y/z",
            "arn:aws:iam::123456789012:assumed-role/x/y",
            "arn:aws:sts::123456789012:role/x",
            "arn:aws:iam::123456789012:role/x y",
            "arn:aws:iam::123456789012:role/x:y",
        ] {
            assert!(PrincipalArn::parse(text).is_err(), "{text}");
        }
        assert!(
            PrincipalArn::parse(&format!("arn:aws:iam::123456789012:user/{}", "x".repeat(1024))).is_err()
        );
    }

    proptest! {
        #[test]
        fn reducing_twice_is_reducing_once(text in "arn:aws:(iam|sts)::[0-9]{12}:(role|user|assumed-role|root)(/[a-z]{0,3}){0,3}") {
            if let Ok(arn) = PrincipalArn::parse(&text) {
                prop_assert_eq!(PrincipalArn::parse(arn.as_str()), Ok(arn));
            }
        }
    }
}
