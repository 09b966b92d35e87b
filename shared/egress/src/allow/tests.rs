use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> AllowRule {
    text.parse().unwrap()
}

fn lists(entries: &str, host: &str, port: u16, address: &str) -> bool {
    AllowList::parse(entries).unwrap().lists(&Host::parse(host).unwrap(), port, address.parse().unwrap())
}

#[test]
fn an_entry_prints_as_it_is_understood() {
    for (text, shown) in [
        ("127.0.0.1:8080", "127.0.0.1/32:8080"),
        ("2130706433:80", "127.0.0.1/32:80"),
        ("[::1]:8080", "[::1/128]:8080"),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1/32:80"),
        ("IdP.Internal.:443", "idp.internal:443"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.0.0.0/8:443", "10.0.0.0/8:443"),
        ("fd12::/16", "fd12::/16"),
        ("fd12::/16:443", "[fd12::/16]:443"),
        ("[fd12::/16]:443", "[fd12::/16]:443"),
    ] {
        assert_eq!(rule(text).to_string(), shown);
        assert_eq!(rule(shown), rule(text));
    }
}

#[test]
fn what_is_no_entry_is_refused() {
    for text in [
        "",
        "localhost",
        "127.0.0.1",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:+1",
        "host:80:80",
        "::1:80",
        "http://host:80",
        "*.internal:443",
        "*:443",
        ".:80",
        "10.0.0.0/33",
        "10.0.0.0/8:",
        "10.0.0.0/8:0",
        "/8",
        "[fd12::/16]",
        "[fd12::/16",
        "[10.0.0.0/8]443",
        "user@host:80",
        "host :80",
        "::ffff:10.0.0.0/104",
    ] {
        assert!(matches!(text.parse::<AllowRule>(), Err(AllowRuleError::Form(_))), "{text}");
    }
}

#[test]
fn d21_metadata_and_link_local_addresses_can_never_be_listed() {
    for text in [
        "169.254.169.254:80",
        "169.254.0.0/16",
        "169.254.169.0/24:80",
        "169.0.0.0/8",
        "0.0.0.0/0",
        "0.0.0.0/0:443",
        "2852039166:80",
        "0xa9fea9fe:80",
        "[fe80::1]:80",
        "fe80::/10",
        "fe80::/64",
        "::/0",
        "fd00::/8",
        "[fd00:ec2::254]:80",
        "168.63.129.16:80",
        "100.100.100.200:80",
        "192.0.0.192/32",
        "[::ffff:169.254.169.254]:80",
        "metadata.google.internal:80",
        "METADATA.google.internal.:80",
    ] {
        assert!(matches!(text.parse::<AllowRule>(), Err(AllowRuleError::Never { .. })), "{text}");
    }
}

#[test]
fn a_host_is_listed_under_its_name_and_port_whatever_its_address() {
    assert!(lists("idp.internal:443", "idp.internal", 443, "10.0.0.1"));
    assert!(lists("idp.internal:443", "IDP.internal.", 443, "10.0.0.1"));
    assert!(!lists("idp.internal:443", "idp.internal", 8443, "10.0.0.1"));
    assert!(!lists("idp.internal:443", "a.idp.internal", 443, "10.0.0.1"));
    assert!(!lists("idp.internal:443", "10.0.0.1", 443, "10.0.0.1"));
}

#[test]
fn an_address_is_listed_with_its_port_whatever_name_leads_to_it() {
    assert!(lists("127.0.0.1:8080", "localhost", 8080, "127.0.0.1"));
    assert!(lists("127.0.0.1:8080", "[::ffff:127.0.0.1]", 8080, "::ffff:127.0.0.1"));
    assert!(!lists("127.0.0.1:8080", "127.0.0.1", 8081, "127.0.0.1"));
    assert!(!lists("127.0.0.1:8080", "127.0.0.2", 8080, "127.0.0.2"));
    assert!(lists("a:1, 10.0.0.0/8", "anything", 9, "10.200.0.1"));
    assert!(!lists("10.0.0.0/8:443", "anything", 80, "10.200.0.1"));
    assert!(!AllowList::default().lists(&Host::parse("a").unwrap(), 1, "127.0.0.1".parse().unwrap()));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_what_parses_prints_to_itself(text in "[0-9a-fx:./\\[\\]* ]{0,24}|\\PC{0,24}") {
        if let Ok(rule) = text.parse::<AllowRule>() {
            prop_assert_eq!(rule.to_string().parse::<AllowRule>(), Ok(rule));
        }
    }
}
