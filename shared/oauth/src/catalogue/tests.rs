use proptest::prelude::*;

use super::*;

fn scopes(text: &str) -> BTreeSet<Scope> {
    text.split_whitespace().map(|scope| Scope::parse(scope).unwrap()).collect()
}

fn granted(vendor: Vendor, asked: &str, returned: &str) -> BTreeSet<Scope> {
    facts(vendor).granted(&scopes(asked), Some(&scopes(returned)))
}

#[test]
fn the_catalogue_parses_and_has_every_vendor() {
    let parsed = parse().unwrap();
    for vendor in Vendor::ALL {
        assert!(parsed.contains_key(vendor), "{vendor:?}");
    }
    assert_eq!(parsed.len(), Vendor::ALL.len());
}

#[test]
fn a_custom_server_is_taken_to_rotate_without_grace() {
    let facts = facts(Vendor::Custom);
    assert_eq!((facts.rotation, facts.reuse_grace, facts.default_ttl), (Rotation::Unknown, None, None));
}

#[test]
fn d13_a_response_without_scope_means_as_requested() {
    for vendor in Vendor::ALL {
        assert_eq!(facts(*vendor).granted(&scopes("a b"), None), scopes("a b"));
    }
}

#[test]
fn d13_a_refused_scope_is_not_granted() {
    assert_eq!(granted(Vendor::Custom, "read write", "read"), scopes("read"));
    assert_eq!(granted(Vendor::Microsoft, "Mail.Read Mail.Send", "Mail.Read"), scopes("Mail.Read"));
    assert_eq!(granted(Vendor::Github, "repo user", "public_repo user"), scopes("user"));
}

#[test]
fn d13_what_was_not_asked_for_is_not_recorded() {
    assert_eq!(granted(Vendor::Slack, "chat:write", "identify chat:write"), scopes("chat:write"));
}

#[test]
fn d13_aliases_are_one_scope() {
    let returned = "openid https://www.googleapis.com/auth/userinfo.email";
    assert_eq!(granted(Vendor::Google, "openid email", returned), scopes("openid email"));
    let asked = "refresh_token api";
    assert_eq!(granted(Vendor::Salesforce, asked, "api offline_access"), scopes(asked));
    let asked = "https://graph.microsoft.com/mail.read User.Read";
    let returned = "Mail.Read https://graph.microsoft.com/User.Read";
    assert_eq!(granted(Vendor::Microsoft, asked, returned), scopes(asked));
}

#[test]
fn d13_a_larger_scope_includes_the_smaller_ones_that_it_replaces() {
    assert_eq!(granted(Vendor::Github, "repo public_repo", "repo"), scopes("repo public_repo"));
    assert_eq!(granted(Vendor::Github, "read:org", "admin:org"), scopes("read:org"));
    assert_eq!(granted(Vendor::Github, "repo", "public_repo"), scopes(""));
}

#[test]
fn d13_scopes_that_are_never_returned_count_as_granted() {
    let asked = "offline_access openid https://graph.microsoft.com/.default";
    assert_eq!(granted(Vendor::Microsoft, asked, "User.Read"), scopes(asked));
    for vendor in Vendor::ALL {
        assert_eq!(granted(*vendor, "offline_access", "read"), scopes("offline_access"), "{vendor:?}");
    }
    assert_eq!(granted(Vendor::Custom, "openid", "read"), scopes(""));
}

proptest! {
    #[test]
    fn d13_never_more_is_granted_than_was_asked_for(
        vendor in proptest::sample::select(Vendor::ALL),
        asked in proptest::collection::btree_set("[!#-\\[\\]-~]{1,30}", 0..6),
        returned in proptest::collection::btree_set("[!#-\\[\\]-~]{1,30}", 0..6),
    ) {
        let parse = |set: BTreeSet<String>| set.iter().map(|s| Scope::parse(s).unwrap()).collect::<BTreeSet<_>>();
        let (asked, returned) = (parse(asked), parse(returned));
        let granted = facts(vendor).granted(&asked, Some(&returned));
        prop_assert!(granted.is_subset(&asked));
        prop_assert!(asked.intersection(&returned).all(|scope| granted.contains(scope)));
    }
}
