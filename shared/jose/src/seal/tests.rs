use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agent_identity_core::Timestamp;
use agent_identity_core::store::{Consistency, Key, Query, Row, StoreError, Write};
use agent_identity_testkit::{Calls, FixedClock, MemoryStore, SeededRandom};
use proptest::prelude::*;

use super::*;

/// Wraps under a fixed key, counts, and fails on demand.
struct TestWrapper {
    master: Key32,
    /// What unwraps too.
    former: Option<Key32>,
    random: SeededRandom,
    unwraps: AtomicUsize,
    down: AtomicBool,
    /// Whether what does not unwrap was wrapped by a key that is gone.
    gone: AtomicBool,
    name: Option<&'static str>,
}

impl TestWrapper {
    fn new(master: u8) -> Arc<Self> {
        Self::after(master, None)
    }

    fn after(master: u8, former: Option<u8>) -> Arc<Self> {
        Arc::new(Self {
            master: Key32::new([master; 32]),
            former: former.map(|former| Key32::new([former; 32])),
            random: SeededRandom::new(99),
            unwraps: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            name: None,
        })
    }

    fn context(pairs: &[(&str, &str)]) -> Context {
        Context::new("wrap", pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
    }

    fn check(&self) -> Result<(), SealError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(SealError::KeyUnavailable("the key service is down".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl KeyWrapper for TestWrapper {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        self.check()?;
        tokio::task::yield_now().await;
        let salt = random::bytes(&self.random);
        Ok(envelope::seal(&self.master, &Self::context(context), &salt, &[], key.expose()).unwrap())
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        tokio::task::yield_now().await;
        self.check()?;
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        let keys = std::iter::once(&self.master).chain(&self.former);
        let mut opened = keys.map(|key| envelope::open(key, &Self::context(context), wrapped));
        let key = opened.find(Result::is_ok).unwrap_or(Err(SealError::Broken))?;
        Ok(Key32::new(key.as_slice().try_into().unwrap()))
    }

    fn key_name(&self) -> Option<&str> {
        self.name
    }

    async fn is_lost(
        &self,
        wrapped: &[u8],
        context: &[(&str, &str)],
        _by: Option<&str>,
    ) -> Result<bool, SealError> {
        match self.unwrap_key(wrapped, context).await {
            Ok(_) => Ok(false),
            Err(SealError::Broken) if self.gone.load(Ordering::SeqCst) => Ok(true),
            Err(_) => Err(SealError::KeyUnavailable("it may come back".to_owned())),
        }
    }

    async fn rewrap(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Option<Vec<u8>>, SealError> {
        if envelope::open(&self.master, &Self::context(context), wrapped).is_ok() {
            return Ok(None);
        }
        let key = self.unwrap_key(wrapped, context).await?;
        self.wrap(&key, context).await.map(Some)
    }
}

struct Setting {
    clock: Arc<FixedClock>,
    store: Arc<MemoryStore>,
    wrapper: Arc<TestWrapper>,
}

impl Setting {
    fn new() -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self { clock, store, wrapper: TestWrapper::new(7) }
    }

    /// A process: a sealer with a cache of its own.
    fn process(&self, seed: u64) -> Arc<VaultSealer> {
        let random = Arc::new(SeededRandom::new(seed));
        Arc::new(VaultSealer::new(self.store.clone(), self.wrapper.clone(), self.clock.clone(), random))
    }
}

fn context(whose: &str) -> Context {
    Context::new("test", [whose.as_bytes()])
}

fn version_of(sealed: &[u8]) -> u32 {
    u32::from_be_bytes(sealed[1..5].try_into().unwrap())
}

fn is_broken(result: &Result<Zeroizing<Vec<u8>>, SealError>) -> bool {
    matches!(result, Err(SealError::Broken))
}

#[tokio::test]
async fn what_was_sealed_opens_in_another_process() {
    let setting = Setting::new();
    let sealed = setting.process(1).seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    let opened = setting.process(2).open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
    assert_eq!(*opened, b"text");
}

#[tokio::test]
async fn d19_another_context_or_purpose_does_not_open() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    for purpose in Purpose::ALL {
        let sealed = sealer.seal(purpose, &context("a"), b"text").await.unwrap();
        assert!(is_broken(&sealer.open(purpose, &context("b"), &sealed).await));
        for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
            sealer.seal(other, &context("a"), b"so that there is a key").await.unwrap();
            assert!(is_broken(&sealer.open(other, &context("a"), &sealed).await));
        }
    }
}

#[tokio::test]
async fn d19_another_version_of_the_key_does_not_open() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let mut sealed = sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    assert_eq!(sealer.rotate(Purpose::Vault).await.unwrap(), 2);
    sealed[4] = 2;
    assert!(is_broken(&sealer.open(Purpose::Vault, &context("a"), &sealed).await));
}

#[tokio::test]
async fn d19_no_changed_byte_truncation_or_addition_opens() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Wat, &context("a"), b"some text").await.unwrap();
    for index in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[index] ^= 1 << bit;
            let opened = sealer.open(Purpose::Wat, &context("a"), &changed).await;
            assert!(is_broken(&opened), "byte {index}, bit {bit}");
        }
        assert!(is_broken(&sealer.open(Purpose::Wat, &context("a"), &sealed[..index]).await));
    }
    let longer = [&sealed[..], &[0]].concat();
    assert!(is_broken(&sealer.open(Purpose::Wat, &context("a"), &longer).await));
}

#[tokio::test]
async fn d19_equal_values_never_look_equal_and_show_nothing() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let first = sealer.seal(Purpose::Vault, &context("a"), b"a secret text").await.unwrap();
    let second = sealer.seal(Purpose::Vault, &context("a"), b"a secret text").await.unwrap();
    assert_ne!(first[5..37], second[5..37], "the salts");
    assert_ne!(first[37..69], second[37..69], "the commitments");
    assert_ne!(first[69..], second[69..], "the ciphertexts");
    assert_eq!(first.len(), 1 + 4 + 32 + 32 + b"a secret text".len() + 16);
    for row in setting.store.rows() {
        assert!(!first.windows(4).any(|window| window == b"text"), "{:?}", row.key);
    }
}

#[tokio::test]
async fn d19_a_forged_commitment_is_refused_before_the_cipher_is_asked() {
    let key = Key32::new([1; 32]);
    let sealed = envelope::seal(&key, &context("a"), &[0; 32], &[], b"text").unwrap();
    let mut forged = sealed.clone();
    forged[32..64].copy_from_slice(&[0; 32]);
    assert!(matches!(envelope::open(&key, &context("a"), &forged), Err(SealError::Broken)));
    let under_another = envelope::seal(&Key32::new([2; 32]), &context("a"), &[0; 32], &[], b"text").unwrap();
    assert_ne!(under_another[32..64], sealed[32..64], "the commitment depends on the key");
    let elsewhere = envelope::seal(&key, &context("b"), &[0; 32], &[], b"text").unwrap();
    assert_ne!(elsewhere[32..64], sealed[32..64], "and on the context");
}

#[test]
fn the_sealed_form_is_what_it_was() {
    let sealed = envelope::seal(&Key32::new([1; 32]), &context("a"), &[2; 32], &[3], b"text").unwrap();
    assert_eq!(
        agent_identity_core::encoding::hex(&sealed),
        include_str!("tests/sealed.hex").trim(),
        "values sealed by earlier releases would not open"
    );
}

#[tokio::test]
async fn a_warm_seal_or_open_does_no_io() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    setting.store.take_calls();
    setting.clock.advance(Duration::from_secs(200));
    for _ in 0..10 {
        sealer.open(Purpose::Wat, &context("a"), &sealed).await.unwrap();
        sealer.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    }
    assert_eq!(setting.store.take_calls(), Calls::default());
    assert_eq!(setting.wrapper.unwraps.load(Ordering::SeqCst), 0, "the key that was just made is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_a_cold_start_costs_one_read_and_makes_one_key() {
    let setting = Setting::new();
    let (one, other) = (setting.process(1), setting.process(2));
    let tasks: Vec<_> = (0..100)
        .map(|index| {
            let sealer = if index % 2 == 0 { one.clone() } else { other.clone() };
            tokio::spawn(async move { sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap() })
        })
        .collect();
    for task in tasks {
        let sealed = task.await.unwrap();
        assert_eq!(version_of(&sealed), 1);
        one.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
        other.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
    }
    assert_eq!(setting.store.rows().len(), 1);
    assert!(setting.store.take_calls().query <= 3, "one each, and one more for who came second");
}

#[tokio::test]
async fn a_crowd_that_waits_for_a_key_service_that_is_down_fails_together() {
    let setting = Setting::new();
    let sealed = setting.process(1).seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    setting.wrapper.down.store(true, Ordering::SeqCst);
    setting.store.take_calls();
    let cold = setting.process(2);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (cold, sealed) = (cold.clone(), sealed.clone());
            tokio::spawn(async move { cold.open(Purpose::Vault, &context("a"), &sealed).await.is_err() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(setting.store.take_calls(), Calls { get: 1, ..Calls::default() });
}

#[tokio::test]
async fn the_first_to_open_something_reads_the_one_row_that_it_names() {
    let setting = Setting::new();
    let writer = setting.process(1);
    writer.seal(Purpose::Wat, &context("a"), b"old").await.unwrap();
    writer.rotate(Purpose::Wat).await.unwrap();
    let sealed = writer.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    let cold = setting.process(2);
    let row = cold.unread_key(Purpose::Wat, &sealed).unwrap();
    assert!(setting.store.rows().iter().any(|stored| stored.key == row));
    setting.store.take_calls();
    cold.open(Purpose::Wat, &context("a"), &sealed).await.unwrap();
    assert_eq!(setting.store.take_calls(), Calls { get: 1, ..Calls::default() });
    assert_eq!(cold.unread_key(Purpose::Wat, &sealed), None, "it is in memory");
    assert_eq!(cold.unread_key(Purpose::Wat, b"nonsense"), None);
    // It knows no more than that: what is current is read before something is sealed, and older versions still open.
    assert_eq!(version_of(&cold.seal(Purpose::Wat, &context("a"), b"text").await.unwrap()), 2);
}

#[tokio::test]
async fn garbage_opens_nothing_in_a_process_that_has_sealed_nothing_and_is_looked_up_once() {
    let setting = Setting::new();
    let sealed = setting.process(1).seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    let cold = setting.process(2);
    cold.open(Purpose::Wat, &context("a"), &sealed).await.unwrap();
    setting.store.take_calls();
    for byte in [1, 2, 3] {
        let mut changed = sealed.clone();
        changed[byte] = 0xff;
        assert!(is_broken(&cold.open(Purpose::Wat, &context("a"), &changed).await));
    }
    assert_eq!(setting.store.take_calls(), Calls { get: 1, query: 1, ..Calls::default() });
}

/// A store that has no time for anybody.
struct BusyStore(Arc<MemoryStore>, AtomicBool);

impl BusyStore {
    fn check(&self) -> Result<(), StoreError> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(StoreError::Busy("held".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for BusyStore {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        self.check()?;
        self.0.get(key, consistency).await
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.check()?;
        self.0.batch_get(keys, consistency).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.check()?;
        self.0.write(writes).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.0.query(query).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.0.due(shard, until, limit).await
    }
}

#[tokio::test]
async fn a_store_that_is_busy_when_the_first_version_is_made_is_told_from_one_that_fails() {
    let setting = Setting::new();
    let store = Arc::new(BusyStore(setting.store.clone(), AtomicBool::new(true)));
    let random = Arc::new(SeededRandom::new(1));
    let sealer = VaultSealer::new(store.clone(), setting.wrapper.clone(), setting.clock.clone(), random);
    let refused = sealer.seal(Purpose::Vault, &context("a"), b"text").await;
    assert!(matches!(refused, Err(SealError::Busy(reason)) if reason == "held"));
    store.1.store(false, Ordering::SeqCst);
    sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
}

#[test]
fn a_read_that_was_overtaken_by_a_rotation_does_not_bring_the_old_version_back() {
    let ring = Ring::default();
    ring.note_current(2, Duration::from_secs(1));
    ring.note_current(1, Duration::from_secs(2));
    assert_eq!(ring.highest(), Some(2));
}

#[tokio::test]
async fn two_processes_that_rotate_at_once_make_two_versions() {
    let setting = Setting::new();
    let (one, other) = (setting.process(1), setting.process(2));
    let (a, b) = tokio::join!(one.rotate(Purpose::Page), other.rotate(Purpose::Page));
    let mut made = [a.unwrap(), b.unwrap()];
    made.sort_unstable();
    assert_eq!(made, [1, 2]);
}

#[tokio::test]
async fn after_a_rotation_old_values_open_and_another_process_opens_new_ones_at_once() {
    let setting = Setting::new();
    let (one, other) = (setting.process(1), setting.process(2));
    let old = one.seal(Purpose::Vault, &context("a"), b"old").await.unwrap();
    other.open(Purpose::Vault, &context("a"), &old).await.unwrap();

    assert_eq!(one.rotate(Purpose::Vault).await.unwrap(), 2);
    let new = one.seal(Purpose::Vault, &context("a"), b"new").await.unwrap();
    assert_eq!((version_of(&old), version_of(&new)), (1, 2));
    assert_eq!(*other.open(Purpose::Vault, &context("a"), &new).await.unwrap(), b"new");
    assert_eq!(*one.open(Purpose::Vault, &context("a"), &old).await.unwrap(), b"old");
    assert_eq!(*setting.process(3).open(Purpose::Vault, &context("a"), &old).await.unwrap(), b"old");
}

#[tokio::test]
async fn another_process_seals_under_a_new_version_within_the_life_of_a_key() {
    let setting = Setting::new();
    let (one, other) = (setting.process(1), setting.process(2));
    other.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    one.rotate(Purpose::Vault).await.unwrap();
    setting.clock.advance(KEY_LIFE);
    let sealed = other.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    assert_eq!(version_of(&sealed), 2);
}

#[tokio::test]
async fn who_asks_which_versions_there_are_seals_under_the_newest_at_once() {
    let setting = Setting::new();
    let (one, other) = (setting.process(1), setting.process(2));
    other.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    one.rotate(Purpose::Vault).await.unwrap();
    assert_eq!(other.key_versions(Purpose::Vault).await.unwrap(), [1, 2]);
    let sealed = other.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    assert_eq!(other.key_version(&sealed), Some(2));
    assert_eq!(other.key_version(&other.seal_with(&Key32::new([4; 32]), &context("a"), b"text")), None);
}

#[tokio::test]
async fn more_versions_than_a_page_of_the_store_are_all_found() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let first = sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    for _ in 0..205 {
        sealer.rotate(Purpose::Vault).await.unwrap();
    }
    let fresh = setting.process(2);
    assert_eq!(version_of(&fresh.seal(Purpose::Vault, &context("a"), b"text").await.unwrap()), 206);
    fresh.open(Purpose::Vault, &context("a"), &first).await.unwrap();
}

#[tokio::test]
async fn a_failed_renewal_within_the_life_of_a_key_is_no_error_and_after_it_is() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    setting.wrapper.down.store(true, Ordering::SeqCst);

    setting.clock.advance(Duration::from_secs(270));
    setting.store.take_calls();
    for _ in 0..10 {
        sealer.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
        sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    }
    assert_eq!(setting.store.take_calls().query, 1, "a failed renewal is not repeated at once");

    setting.clock.advance(Duration::from_secs(30));
    let late = sealer.open(Purpose::Vault, &context("a"), &sealed).await;
    assert!(matches!(late, Err(SealError::KeyUnavailable(_))));

    setting.wrapper.down.store(false, Ordering::SeqCst);
    sealer.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
}

#[tokio::test]
async fn a_renewal_in_time_keeps_a_busy_process_free_of_waiting() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    for _ in 0..20 {
        setting.clock.advance(Duration::from_secs(60));
        sealer.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
    }
    assert_eq!(setting.wrapper.unwraps.load(Ordering::SeqCst), 5, "every four minutes");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_neither_prolongs_nor_ends_the_life_of_a_key() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    setting.wrapper.down.store(true, Ordering::SeqCst);
    setting.clock.set(agent_identity_core::Timestamp::from_seconds(4_000_000_000));
    sealer.open(Purpose::Vault, &context("a"), &sealed).await.unwrap();
    setting.clock.set(agent_identity_core::Timestamp::EPOCH);
    setting.clock.advance_elapsed(KEY_LIFE);
    assert!(sealer.open(Purpose::Vault, &context("a"), &sealed).await.is_err());
}

#[tokio::test]
async fn garbage_far_beyond_the_current_version_costs_no_io() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    let sealed = sealer.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    setting.store.take_calls();
    for byte in 1..=3 {
        let mut changed = sealed.clone();
        changed[byte] = 0xff;
        assert!(is_broken(&sealer.open(Purpose::Wat, &context("a"), &changed).await));
    }
    assert!(is_broken(&sealer.open(Purpose::Wat, &context("a"), &[1; 4]).await));
    assert!(is_broken(&sealer.open(Purpose::Wat, &context("a"), &[]).await));
    assert_eq!(setting.store.take_calls(), Calls::default());
}

#[tokio::test]
async fn under_another_master_key_the_vault_key_is_unavailable_and_the_value_not_blamed() {
    let setting = Setting::new();
    let sealed = setting.process(1).seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    let stranger = VaultSealer::new(
        setting.store.clone(),
        TestWrapper::new(8),
        setting.clock.clone(),
        Arc::new(SeededRandom::new(5)),
    );
    let opened = stranger.open(Purpose::Vault, &context("a"), &sealed).await;
    assert!(matches!(opened, Err(SealError::KeyUnavailable(_))));
}

#[tokio::test]
async fn a_stored_vault_key_is_wrapped_and_cannot_take_the_place_of_another() {
    let setting = Setting::new();
    let sealer = setting.process(1);
    sealer.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
    sealer.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
    let rows: Vec<Row> = setting.store.rows();
    let sorts: Vec<_> = rows.iter().map(|row| (row.key.partition.as_str(), row.key.sort.as_str())).collect();
    assert_eq!(sorts, [("vault", "0000000001"), ("wat", "0000000001")]);
    let moved = Row { key: rows[1].key.clone(), ..rows[0].clone() };
    assert!(vault_key::unwrap_row(&*setting.wrapper, Purpose::Vault, &rows[0]).await.is_ok());
    assert!(vault_key::unwrap_row(&*setting.wrapper, Purpose::Wat, &moved).await.is_err());
}

#[tokio::test]
async fn a_given_key_opens_what_it_sealed_and_nothing_else() {
    let sealer = Setting::new().process(1);
    let key = Key32::new([4; 32]);
    let sealed = sealer.seal_with(&key, &context("a"), b"text");
    assert_eq!(*sealer.open_with(&key, &context("a"), &sealed).unwrap(), b"text");
    assert!(is_broken(&sealer.open_with(&key, &context("b"), &sealed)));
    assert!(is_broken(&sealer.open_with(&Key32::new([5; 32]), &context("a"), &sealed)));
    assert!(is_broken(&sealer.open(Purpose::Vault, &context("a"), &sealed).await));
}

proptest! {
    #[test]
    fn d19_any_flipped_byte_does_not_open(text: Vec<u8>, whose: String, at: prop::sample::Index, flip in 1..=255_u8) {
        let sealer = Setting::new().process(1);
        let key = Key32::new([4; 32]);
        let mut sealed = sealer.seal_with(&key, &context(&whose), &text);
        prop_assert_eq!(&*sealer.open_with(&key, &context(&whose), &sealed).unwrap(), &text);
        let at = at.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert!(is_broken(&sealer.open_with(&key, &context(&whose), &sealed)));
    }

    #[test]
    fn arbitrary_bytes_never_open_nor_panic(bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sealer = Setting::new().process(1);
        prop_assert!(runtime.block_on(sealer.open(Purpose::Vault, &context("a"), &bytes)).is_err());
        prop_assert!(sealer.open_with(&Key32::new([4; 32]), &context("a"), &bytes).is_err());
    }
}

#[tokio::test]
async fn rewrapped_keys_open_what_they_sealed_without_the_former_key() {
    let mut setting = Setting::new();
    let mut sealed = Vec::new();
    for purpose in Purpose::ALL {
        sealed.push((purpose, setting.process(1).seal(purpose, &context("a"), b"old").await.unwrap()));
    }
    let second = setting.process(1);
    second.rotate(Purpose::Vault).await.unwrap();
    sealed.push((Purpose::Vault, second.seal(Purpose::Vault, &context("a"), b"old").await.unwrap()));
    let running = setting.process(2);

    setting.wrapper = TestWrapper::after(8, Some(7));
    setting.clock.advance(Duration::from_secs(60));
    let keys = Purpose::ALL.len() + 1;
    let wrapping = setting.process(3).rewrap_keys().await.unwrap();
    assert_eq!(wrapping, Wrapping { rewrapped: keys, changed_at: Some(setting.clock.now()) });
    setting.clock.advance(Duration::from_secs(60));
    let again = setting.process(4).rewrap_keys().await.unwrap();
    assert_eq!(again, Wrapping { rewrapped: 0, ..wrapping }, "it is safe to repeat");

    setting.wrapper = TestWrapper::new(8);
    for (purpose, sealed) in &sealed {
        let opened = setting.process(5).open(*purpose, &context("a"), sealed).await.unwrap();
        assert_eq!(*opened, b"old");
    }
    // A process that knows the former key alone says so, and takes nothing for broken.
    let refused = running.open(Purpose::Vault, &context("a"), &sealed[0].1).await;
    assert!(matches!(refused, Err(SealError::KeyUnavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn rewrapping_that_was_cut_off_goes_on_where_it_was() {
    let mut setting = Setting::new();
    for purpose in Purpose::ALL {
        setting.process(1).seal(purpose, &context("a"), b"old").await.unwrap();
    }
    setting.wrapper = TestWrapper::new(8);
    let lost = setting.process(2).rewrap_keys().await;
    assert!(matches!(lost, Err(SealError::KeyUnavailable(_))), "a key that nothing unwraps is no success");
    setting.wrapper = TestWrapper::after(8, Some(7));
    let process = setting.process(3);
    setting.wrapper.down.store(true, Ordering::SeqCst);
    assert!(process.rewrap_keys().await.is_err());
    setting.wrapper.down.store(false, Ordering::SeqCst);
    assert_eq!(process.rewrap_keys().await.unwrap().rewrapped, Purpose::ALL.len());
}

#[tokio::test]
async fn lost_keys_are_given_up_and_only_they() {
    let mut setting = Setting::new();
    let old = setting.process(1).seal(Purpose::Vault, &context("a"), b"old").await.unwrap();
    setting.process(1).seal(Purpose::Wat, &context("a"), b"old").await.unwrap();
    // The second version is wrapped by the key of today, the first by one that is gone.
    setting.wrapper = TestWrapper::after(8, Some(7));
    let second = setting.process(2);
    assert_eq!(second.rotate(Purpose::Vault).await.unwrap(), 2);
    let new = second.seal(Purpose::Vault, &context("a"), b"new").await.unwrap();
    assert_eq!(second.give_up_lost_keys().await.unwrap(), 0, "all unwrap");

    setting.wrapper = TestWrapper::new(8);
    let process = setting.process(3);
    let before = setting.store.rows();
    let refused = process.give_up_lost_keys().await;
    assert!(matches!(refused, Err(SealError::KeyUnavailable(_))), "it may come back: {refused:?}");
    assert_eq!(setting.store.rows(), before, "and nothing was changed");
    let refused = process.open(Purpose::Vault, &context("a"), &old).await;
    assert!(matches!(refused, Err(SealError::KeyUnavailable(_))), "{refused:?}");

    setting.wrapper.gone.store(true, Ordering::SeqCst);
    assert_eq!(process.give_up_lost_keys().await.unwrap(), 2);
    assert_eq!(process.give_up_lost_keys().await.unwrap(), 0, "once");
    for process in [process, setting.process(4)] {
        let lost = process.open(Purpose::Vault, &context("a"), &old).await;
        assert!(matches!(lost, Err(SealError::Lost)), "{lost:?}");
        assert_eq!(*process.open(Purpose::Vault, &context("a"), &new).await.unwrap(), b"new");
        let sealed = process.seal(Purpose::Wat, &context("a"), b"text").await.unwrap();
        assert_eq!(version_of(&sealed), 2, "the key of workload access tokens has a new version");
        let sealed = process.seal(Purpose::Vault, &context("a"), b"text").await.unwrap();
        assert_eq!(version_of(&sealed), 2, "and that of the vault needs none");
    }
    assert_eq!(setting.process(5).rewrap_keys().await.unwrap().rewrapped, 0);
}

#[tokio::test]
async fn giving_up_that_was_cut_off_goes_on() {
    let mut setting = Setting::new();
    for purpose in Purpose::ALL {
        setting.process(1).seal(purpose, &context("a"), b"old").await.unwrap();
    }
    setting.wrapper = TestWrapper::new(8);
    setting.wrapper.gone.store(true, Ordering::SeqCst);
    // A process that died when it had made the new versions.
    for purpose in Purpose::ALL {
        setting.process(2).rotate(purpose).await.unwrap();
    }
    assert_eq!(setting.process(3).give_up_lost_keys().await.unwrap(), Purpose::ALL.len());
    for purpose in Purpose::ALL {
        assert_eq!(setting.process(4).key_versions(purpose).await.unwrap(), [1, 2]);
    }
}

#[tokio::test]
async fn the_key_that_wrapped_a_row_of_before_is_put_on_record_while_it_unwraps() {
    let mut setting = Setting::new();
    let sealed = setting.process(1).seal(Purpose::Vault, &context("a"), b"old").await.unwrap();
    let named = |setting: &Setting| {
        let [row] = setting.store.rows().try_into().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&row.bytes).unwrap();
        value["wrappedBy"].as_str().map(str::to_owned)
    };
    assert_eq!(named(&setting), None);
    setting.wrapper =
        Arc::new(TestWrapper { name: Some("first"), ..Arc::into_inner(TestWrapper::new(7)).unwrap() });
    let before = setting.process(2).wrapping().await.unwrap();
    assert_eq!(setting.process(3).rewrap_keys().await.unwrap(), before, "nothing was wrapped anew");
    assert_eq!(named(&setting), Some("first".to_owned()));
    assert_eq!(*setting.process(4).open(Purpose::Vault, &context("a"), &sealed).await.unwrap(), b"old");
}
