use std::time::Duration;

use super::*;

pub(crate) const START: Timestamp = Timestamp::from_seconds(1_000_000);

pub(crate) fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

pub(crate) fn connection(lifetime: u64) -> Connection {
    Connection {
        workload: Id::from_bytes([1; 16]),
        user: UserKey::from_digest([2; 32]),
        provider: Id::from_bytes([3; 16]),
        target: Label::default().to_string(),
        resources: Vec::new(),
        audiences: Vec::new(),
        provider_generation: 1,
        asked: BTreeSet::new(),
        granted: BTreeSet::new(),
        account: None,
        consented_at: Some(START),
        used_at: None,
        announced_end: None,
        tokens: HeldTokens {
            generation: 1,
            obtained_at: START,
            expires_at: Some(at(lifetime)),
            refreshable: true,
            sealed: String::new(),
        },
        health: Health::Active,
        flight: Flight::default(),
    }
}

struct Fnv;

impl crate::port::Digest for Fnv {
    fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hash.to_be_bytes());
        digest
    }
}

#[test]
fn tokens_for_different_resources_are_different_connections() {
    let text = |resources: &[&str], audiences: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let (resources, audiences) = (own(resources), own(audiences));
        ConnectionTarget { label: &Label::default(), resources: &resources, audiences: &audiences }.text(&Fnv)
    };
    assert_eq!(text(&[], &[]), "default");
    assert_eq!(text(&["a", "b"], &[]), text(&["b", "a", "a"], &[]));
    assert_ne!(text(&["a"], &[]), text(&[], &["a"]));
    assert_ne!(text(&["a"], &[]), text(&["b"], &[]));
}

#[test]
fn a_row_from_before_connections_kept_what_they_are_for_still_reads() {
    let mut connection = connection(3600);
    connection.resources = vec!["https://api.example/".to_owned()];
    let mut row = serde_json::to_value(&connection).unwrap();
    assert_eq!(serde_json::from_value::<Connection>(row.clone()).unwrap(), connection);
    row.as_object_mut().unwrap().retain(|name, _| name != "resources" && name != "audiences");
    assert_eq!(serde_json::from_value::<Connection>(row).unwrap().resources, Vec::<String>::new());
}

#[test]
fn a_row_that_needs_a_consent_from_before_announcements_were_kept_reads_as_announced() {
    let old = r#"{"NeedsConsent":{"reason":"invalid_grant","since":5}}"#;
    let told = Health::NeedsConsent {
        reason: Reason::InvalidGrant,
        since: Timestamp::from_millis(5),
        announced: true,
    };
    assert_eq!(serde_json::from_str::<Health>(old).unwrap(), told);
}
