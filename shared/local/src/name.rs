//! Names that an administrator gives to secrets and signing keys of the local store.

use std::fmt;

/// The name of a secret or signing key: 1 to 512 of the characters that Secrets Manager allows in a secret's name
/// (`CreateSecret`, parameter `Name`), so that what works on a laptop works on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName(String);

impl LocalName {
    /// The name, if it is valid.
    ///
    /// # Errors
    /// The text says which limit it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !(1..=512).contains(&text.len()) {
            return Err("must have 1 to 512 characters".to_owned());
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c)) {
            return Err("must match [A-Za-z0-9/_+=.@-]+".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for LocalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_an_arn_could_not_carry_is_refused() {
        for good in ["a", "prod/github-client_1+=.@"] {
            assert_eq!(LocalName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a:b", "ä", "a\n", &"a".repeat(513)] {
            assert!(LocalName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
