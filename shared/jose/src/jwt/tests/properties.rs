//! What must hold for any input.

use agent_identity_core::issuer::IssuerPolicy;
use proptest::prelude::*;

use super::support::{Setting, claims};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_and_never_panics(text in ".*") {
        prop_assert!(block_on(Setting::new().verify(&text)).is_err());
    }

    #[test]
    fn arbitrary_text_in_three_parts_is_refused_and_never_panics(text in "[A-Za-z0-9_-]*\\.[A-Za-z0-9_-]*\\.[A-Za-z0-9_-]*") {
        prop_assert!(block_on(Setting::new().verify_under(&text, &IssuerPolicy::AnyIssuer)).is_err());
    }

    #[test]
    fn arbitrary_signed_bytes_are_refused_and_never_panic(header: Vec<u8>, payload: Vec<u8>) {
        let setting = Setting::new();
        let good = br#"{"alg":"ES256","kid":"k1"}"#.to_vec();
        for header in [header, good] {
            let token = setting.key.token_of(header, &payload);
            prop_assert!(block_on(setting.verify_under(&token, &IssuerPolicy::AnyIssuer)).is_err());
        }
    }

    #[test]
    fn a_token_with_any_character_changed_is_refused(at: prop::sample::Index, to in "[A-Za-z0-9_=. -]") {
        let setting = Setting::new();
        let token = setting.key.token(&claims());
        let at = at.index(token.len());
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(block_on(setting.verify(&changed)).is_err());
    }
}
