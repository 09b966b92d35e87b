//! The contract suites: what every adapter of a port must do, one rule per test.

use std::future::Future;
use std::sync::Arc;

use agent_identity_core::Clock;
use agent_identity_core::store::Store;

use crate::FixedClock;

pub mod secrets;
pub mod signing;
pub mod store;
pub mod wrapper;

/// Runs one rule of the store's contract against a fresh store of `make`. What `make` returns beside the store (a
/// temporary directory, a server) is dropped after the rule. Called by [`crate::store_contract!`].
pub fn run_store<Made, Kept, Ran>(
    make: impl FnOnce(Arc<dyn Clock>) -> Made,
    rule: impl FnOnce(Arc<dyn Store>, Arc<FixedClock>) -> Ran,
) where
    Made: Future<Output = (Arc<dyn Store>, Kept)>,
    Ran: Future<Output = ()>,
{
    run(async {
        let clock = Arc::new(FixedClock::default());
        let (store, kept) = make(Arc::<FixedClock>::clone(&clock)).await;
        rule(store, clock).await;
        drop(kept);
    });
}

/// Runs one rule of another port's contract against what `make` makes.
pub fn run_rule<Made, Subject, Ran>(make: Made, rule: impl FnOnce(Subject) -> Ran)
where
    Made: Future<Output = Subject>,
    Ran: Future<Output = ()>,
{
    run(async { rule(make.await).await });
}

#[expect(clippy::expect_used, reason = "test code: without a runtime there is no test")]
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(test);
}

/// Generates one test for each rule of the `Store` port. The argument makes a fresh, empty store:
/// `async fn(Arc<dyn Clock>) -> (Arc<dyn Store>, K)`, where `K` is whatever must outlive the store.
///
/// Two rules are groups of their own, for emulators that lack what AWS has: `store_contract!(rules: …)` is all but those,
/// `store_contract!(hundred_writes: …)` and `store_contract!(transfers: …)` are the two.
#[macro_export]
macro_rules! store_contract {
    ($make:expr) => {
        $crate::store_contract!(rules: $make);
        $crate::store_contract!(hundred_writes: $make);
        $crate::store_contract!(transfers: $make);
    };
    (hundred_writes: $make:expr) => {
        $crate::store_contract! { @ $make;
            a_hundred_writes_at_once_are_taken
        }
    };
    (transfers: $make:expr) => {
        $crate::store_contract! { @ $make;
            transfers_at_the_same_time_keep_the_sum
        }
    };
    (rules: $make:expr) => {
        $crate::store_contract! { @ $make;
            an_absent_row_is_none
            a_row_reads_back_as_it_was_written
            the_same_address_under_another_kind_is_another_row
            creating_refuses_a_row_that_exists
            replacing_needs_exactly_the_version_that_is_there
            versions_move_by_one_and_start_again_after_a_delete
            deleting_needs_exactly_the_version_that_is_there
            a_check_moves_nothing_and_fails_the_others
            a_conflict_names_the_first_write_that_failed
            a_conflict_writes_nothing_anywhere
            several_kinds_and_partitions_are_written_at_once
            an_empty_list_of_writes_is_no_error
            more_writes_than_the_limit_are_refused
            a_row_named_twice_in_one_write_is_refused
            a_row_ceases_to_exist_at_its_expiry
            an_expired_row_counts_as_absent_in_conditions
            an_expired_row_can_be_created_again
            a_rewrite_replaces_the_expiry
            a_batch_answers_in_the_order_asked_with_gaps
            a_batch_takes_a_hundred_keys_and_no_more
            a_batch_with_a_key_twice_is_refused
            a_query_is_ordered_bytewise
            a_query_begins_after_its_start_and_ends_at_its_limit
            a_query_sees_one_partition_of_one_kind
            keys_may_hold_any_text_but_nul
            keys_beyond_their_limit_are_refused
            a_value_may_be_empty_or_have_350_kib_and_no_more
            due_rows_come_earliest_first_up_to_the_time_and_the_limit
            due_rows_stay_in_their_shard
            the_due_entry_follows_the_row
            a_due_shard_beyond_the_last_is_refused
            of_eight_writers_one_wins_each_round
            of_eight_creators_one_wins
        }
    };
    (@ $make:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::contract::run_store($make, $crate::contract::store::$rule);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_in_the_list_of_its_macro() {
        for (suite, rules, list) in [
            ("store", include_str!("contract/store.rs"), include_str!("contract.rs")),
            ("secrets", include_str!("contract/secrets.rs"), include_str!("contract/secrets.rs")),
            ("signing", include_str!("contract/signing.rs"), include_str!("contract/signing.rs")),
            ("wrapper", include_str!("contract/wrapper.rs"), include_str!("contract/wrapper.rs")),
        ] {
            let rules = rules
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|rest| rest.split(['(', '<']).next());
            for rule in rules {
                assert!(
                    list.lines().any(|line| line.trim() == rule),
                    "`{rule}` of the {suite} suite is not run"
                );
            }
        }
    }
}
