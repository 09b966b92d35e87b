use std::time::Duration;

use agent_identity_testkit::{FixedClock, store_contract};

use super::*;

async fn fresh(clock: Arc<dyn Clock>) -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    (Arc::new(SqliteStore::new(database, clock)), directory)
}

store_contract!(fresh);

fn put(sort: &str, expires_at: Option<Timestamp>) -> Write {
    let key = Key::of(Kind::Connection, "p", sort);
    let due = Some(Due { shard: 0, at: Timestamp::EPOCH });
    Write::Put { key, condition: Condition::Absent, expires_at, due, bytes: b"value".to_vec() }
}

#[test]
fn every_kind_reads_back_from_its_text_form() {
    // The match has no wildcard, so that a new kind is not forgotten above.
    for listed in Kind::ALL {
        match listed {
            Kind::Workload
            | Kind::WorkloadName
            | Kind::Oauth2Provider
            | Kind::Oauth2ProviderName
            | Kind::ApiKeyProvider
            | Kind::ApiKeyProviderName
            | Kind::Tool
            | Kind::ToolName
            | Kind::Connection
            | Kind::ConnectionEntry
            | Kind::Revocation
            | Kind::ClientToken
            | Kind::ConsentSession
            | Kind::UserKey
            | Kind::InboundJwt
            | Kind::AccessKey
            | Kind::Principal
            | Kind::Authorizer
            | Kind::Issuer
            | Kind::Jwks
            | Kind::JwksCoolDown
            | Kind::Denial
            | Kind::VaultKey
            | Kind::Audit
            | Kind::AuditHead
            | Kind::Usage => assert_eq!(kind(listed.as_str()).unwrap(), listed),
        }
    }
    assert!(kind("nothing").is_err());
}

#[tokio::test]
async fn reaping_removes_what_has_expired_up_to_its_limit_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(FixedClock::default());
    let database = Database::open(directory.path()).await.unwrap();
    let store = SqliteStore::new(database.clone(), Arc::<FixedClock>::clone(&clock));
    let at = |seconds| Some(clock.now().plus(Duration::from_secs(seconds)));
    let writes = vec![put("a", at(3)), put("b", at(1)), put("c", at(2)), put("d", at(9)), put("e", None)];
    store.write(writes).await.unwrap();
    clock.advance(Duration::from_secs(5));
    assert_eq!(store.reap(2).await.unwrap(), 2);
    let left = || {
        let sorts = "SELECT group_concat(sort, '') FROM rows";
        database.read(|connection| connection.query_row(sorts, [], |row| row.get::<_, String>(0))).unwrap()
    };
    assert_eq!(left(), "ade");
    assert_eq!(store.reap(10).await.unwrap(), 1);
    assert_eq!(store.reap(10).await.unwrap(), 0);
    assert_eq!(left(), "de");
}

#[tokio::test]
async fn reads_and_reaping_search_an_index_and_never_scan() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    for (statement, expected) in [
        (
            concat!(columns!(), "INDEXED BY rows_due WHERE due_shard = ?1 AND due_at <= ?2 ORDER BY due_at"),
            "SEARCH rows USING INDEX rows_due (due_shard=? AND due_at<?)",
        ),
        (
            concat!(columns!(), "WHERE kind = ?1 AND \"partition\" = ?2 AND sort > ?3 ORDER BY sort"),
            "SEARCH rows USING INDEX sqlite_autoindex_rows_1 (kind=? AND partition=? AND sort>?)",
        ),
        (
            "SELECT rowid FROM rows WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 5",
            "SEARCH rows USING COVERING INDEX rows_expiry (expires_at<?)",
        ),
    ] {
        let plan: Vec<String> = database
            .read(|connection| {
                let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
                let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
                explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))?.collect()
            })
            .unwrap();
        assert_eq!(plan, [expected]);
    }
}
