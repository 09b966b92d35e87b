//! The rules of the `KeyWrapper` port. Each gets two wrappers with different keys.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a contract suite is test code")]

use std::sync::Arc;

use agent_identity_core::seal::{Key32, KeyWrapper};

/// Two wrappers that must not open each other's keys, and whatever must outlive them.
pub struct Wrappers<K> {
    /// The one that wraps.
    pub ours: Arc<dyn KeyWrapper>,
    /// Another, with a key of its own.
    pub other: Arc<dyn KeyWrapper>,
    /// Dropped after the rule.
    pub kept: K,
}

const CONTEXT: [(&str, &str); 3] = [("vault", "default"), ("version", "1"), ("purpose", "wat")];

/// The key comes back, and its bytes do not stand in what is stored.
pub async fn a_wrapped_key_unwraps<K>(subject: Wrappers<K>) {
    let key = Key32::new([42; 32]);
    let wrapped = subject.ours.wrap(&key, &CONTEXT).await.unwrap();
    assert_eq!(subject.ours.unwrap_key(&wrapped, &CONTEXT).await.unwrap().expose(), key.expose());
    assert!(!wrapped.windows(8).any(|window| window == [42; 8]));
}

/// A context is a map, as with KMS: the order of its pairs says nothing.
pub async fn the_order_of_the_context_does_not_matter<K>(subject: Wrappers<K>) {
    let wrapped = subject.ours.wrap(&Key32::new([1; 32]), &CONTEXT).await.unwrap();
    let reversed = [CONTEXT[2], CONTEXT[1], CONTEXT[0]];
    assert!(subject.ours.unwrap_key(&wrapped, &reversed).await.is_ok());
}

/// One value changed, one pair missing, or none at all.
pub async fn another_context_does_not_open<K>(subject: Wrappers<K>) {
    let wrapped = subject.ours.wrap(&Key32::new([1; 32]), &CONTEXT).await.unwrap();
    let contexts: [&[(&str, &str)]; 3] =
        [&[("vault", "default"), ("version", "2"), ("purpose", "wat")], &CONTEXT[..2], &[]];
    for context in contexts {
        assert!(subject.ours.unwrap_key(&wrapped, context).await.is_err(), "{context:?}");
    }
}

/// Any bit, any truncation, anything appended.
pub async fn changed_bytes_do_not_open<K>(subject: Wrappers<K>) {
    let wrapped = subject.ours.wrap(&Key32::new([1; 32]), &CONTEXT).await.unwrap();
    for index in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[index] ^= 1;
        assert!(subject.ours.unwrap_key(&changed, &CONTEXT).await.is_err(), "byte {index}");
        assert!(subject.ours.unwrap_key(&wrapped[..index], &CONTEXT).await.is_err(), "only {index} bytes");
    }
    assert!(subject.ours.unwrap_key(&[wrapped, vec![0]].concat(), &CONTEXT).await.is_err());
}

/// Each wrapper has its own key.
pub async fn another_wrapper_does_not_open<K>(subject: Wrappers<K>) {
    let wrapped = subject.ours.wrap(&Key32::new([1; 32]), &CONTEXT).await.unwrap();
    assert!(subject.other.unwrap_key(&wrapped, &CONTEXT).await.is_err());
}

/// Otherwise equal keys would show.
pub async fn one_key_never_wraps_to_the_same_bytes_twice<K>(subject: Wrappers<K>) {
    let key = Key32::new([1; 32]);
    let first = subject.ours.wrap(&key, &CONTEXT).await.unwrap();
    assert_ne!(first, subject.ours.wrap(&key, &CONTEXT).await.unwrap());
}

/// Generates one test for each rule of the `KeyWrapper` port. The argument is an expression, evaluated in each test, for
/// a future of [`Wrappers`].
#[macro_export]
macro_rules! wrapper_contract {
    ($make:expr) => {
        $crate::wrapper_contract! { @ $make;
            a_wrapped_key_unwraps
            the_order_of_the_context_does_not_matter
            another_context_does_not_open
            changed_bytes_do_not_open
            another_wrapper_does_not_open
            one_key_never_wraps_to_the_same_bytes_twice
        }
    };
    (@ $make:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::contract::run_rule($make, $crate::contract::wrapper::$rule);
            }
        )*
    };
}
