//! What is kept of an issuer: how its users are known, for ever, and where its keys are found.

use serde::{Deserialize, Serialize};

use super::TrustedIssuer;
use crate::Timestamp;
use crate::authorizer::DiscoveryUrl;
use crate::store::{Key, Kind};

/// An issuer that some authorizer names. Written with the first of them, in one transaction, and never changed or deleted: users
/// are known by the claim that it names (D10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRecord {
    /// Its URL, without a terminating slash ([`DiscoveryUrl::issuer`]).
    pub issuer: String,
    /// The claim that names its users (D10).
    pub subject_claim: String,
    /// Where it publishes its metadata, as the first authorizer said.
    pub discovery_url: DiscoveryUrl,
    /// When that was.
    pub created_at: Timestamp,
}

impl IssuerRecord {
    /// Where the record of an issuer is stored, whether its URL is given with a terminating slash or without: the two are one
    /// issuer with one document (OpenID Connect Discovery §4), which says which of them its tokens have. They are in one
    /// directory partition, to be listed.
    pub fn key(issuer: &str) -> Key {
        Key::directory(Kind::Issuer, without_slash(issuer))
    }
}

/// An issuer's URL as records have it.
pub fn without_slash(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
}

/// The claim that names an issuer's users: of its record, or else of the deployment's configuration, or else the one that is asked
/// for now, or else `sub`. All that are there must agree.
///
/// # Errors
/// The text says which claim it is, and what to do.
pub fn settle_subject_claim(
    issuer: &str,
    record: Option<&IssuerRecord>,
    configured: &[TrustedIssuer],
    asked: Option<&str>,
) -> Result<String, String> {
    let issuer = without_slash(issuer);
    let configured = configured
        .iter()
        .filter(|trusted| without_slash(&trusted.issuer) == issuer)
        .map(|trusted| trusted.subject_claim.as_str());
    let mut said: Option<&str> = record.map(|record| record.subject_claim.as_str());
    for claim in configured {
        match said {
            Some(said) if said != claim => {
                return Err(format!(
                    "cannot be settled: the deployment's trusted issuers say that users of `{issuer}` are known by `{claim}`, \
                     and they are known by `{said}`"
                ));
            }
            _ => said = Some(claim),
        }
    }
    match (said, asked) {
        (Some(said), Some(asked)) if said != asked => Err(format!(
            "must be `{said}`: users of `{issuer}` are known by that claim, which cannot change once there are users"
        )),
        _ => Ok(said.or(asked).unwrap_or("sub").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://idp.example/t";

    fn record(claim: &str) -> IssuerRecord {
        let url = format!("{ISSUER}/.well-known/openid-configuration");
        IssuerRecord {
            issuer: ISSUER.to_owned(),
            subject_claim: claim.to_owned(),
            discovery_url: DiscoveryUrl::parse(&url).unwrap(),
            created_at: Timestamp::EPOCH,
        }
    }

    fn trusted(issuer: &str, claim: &str) -> TrustedIssuer {
        let text = format!("issuer={issuer},audience=a,subject-claim={claim}");
        super::super::parse_trusted_issuers(&text).unwrap().remove(0)
    }

    #[test]
    fn d10_with_and_without_a_slash_it_is_one_issuer() {
        assert_eq!(IssuerRecord::key(ISSUER), IssuerRecord::key(&format!("{ISSUER}/")));
        assert_ne!(IssuerRecord::key(ISSUER), IssuerRecord::key("https://idp.example"));
        let configured = [trusted(&format!("{ISSUER}/"), "oid")];
        assert_eq!(settle_subject_claim(ISSUER, None, &configured, None).as_deref(), Ok("oid"));
    }

    #[test]
    fn d10_who_says_it_first_says_it_for_ever() {
        let settle = |record: Option<&IssuerRecord>, configured: &[TrustedIssuer], asked| {
            settle_subject_claim(ISSUER, record, configured, asked)
        };
        assert_eq!(settle(None, &[], None).as_deref(), Ok("sub"));
        assert_eq!(settle(None, &[], Some("oid")).as_deref(), Ok("oid"));
        assert_eq!(settle(Some(&record("oid")), &[], None).as_deref(), Ok("oid"));
        assert_eq!(
            settle(Some(&record("oid")), &[trusted(ISSUER, "oid")], Some("oid")).as_deref(),
            Ok("oid")
        );
        let others = [trusted("https://idp.example", "sub")];
        assert_eq!(settle(None, &others, Some("oid")).as_deref(), Ok("oid"));
        let refused = settle(Some(&record("oid")), &[], Some("sub")).unwrap_err();
        assert!(refused.contains("known by that claim") && refused.contains("`oid`"), "{refused}");
        assert!(settle(None, &[trusted(ISSUER, "sub")], Some("oid")).is_err());
        assert!(settle(Some(&record("oid")), &[trusted(ISSUER, "sub")], None).is_err());
        assert!(settle(None, &[trusted(ISSUER, "sub"), trusted(ISSUER, "oid")], None).is_err());
    }
}
