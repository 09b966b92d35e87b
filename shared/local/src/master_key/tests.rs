use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Barrier};

use agent_identity_testkit::contract::wrapper::Wrappers;
use agent_identity_testkit::wrapper_contract;
use tempfile::{TempDir, tempdir};

use super::*;

wrapper_contract!(async {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    Wrappers {
        ours: Arc::new(open(&one).await.unwrap()),
        other: Arc::new(open(&two).await.unwrap()),
        kept: (one, two),
    }
});

#[tokio::test]
async fn text_moved_from_a_name_of_the_context_to_its_value_does_not_open() {
    let directory = tempdir().unwrap();
    let key = open(&directory).await.unwrap();
    let wrapped = key.wrap(&Key32::new([1; 32]), &[("vault", "default")]).await.unwrap();
    let moved = key.unwrap_key(&wrapped, &[("vaultd", "efault")]).await;
    assert!(matches!(moved, Err(SealError::Broken)));
}

async fn open(directory: &TempDir) -> Result<MasterKey, MasterKeyError> {
    MasterKey::open(&Database::open(directory.path()).await.unwrap()).await
}

fn same(a: &MasterKey, b: &MasterKey) -> bool {
    a.0.expose() == b.0.expose()
}

#[tokio::test]
async fn the_key_is_made_once_in_a_private_file_and_nothing_else_is_left() {
    let directory = tempdir().unwrap();
    let first = open(&directory).await.unwrap();
    assert!(same(&first, &open(&directory).await.unwrap()));
    assert!(same(&first, &MasterKey::load(directory.path()).unwrap()));
    let file = directory.path().join(FILE);
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    let hidden = directory
        .path()
        .read_dir()
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[tokio::test]
async fn two_directories_have_two_keys() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    assert!(!same(&open(&one).await.unwrap(), &open(&two).await.unwrap()));
}

#[test]
fn first_starts_at_the_same_time_end_up_with_one_key() {
    for _ in 0..10 {
        let directory = tempdir().unwrap();
        let barrier = Barrier::new(8);
        let keys: Vec<MasterKey> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(open(&directory)).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| same(key, &keys[0])));
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_with_the_way_to_mend_it() {
    let directory = tempdir().unwrap();
    open(&directory).await.unwrap();
    for mode in [0o640, 0o604, 0o620, 0o644] {
        set_permissions(directory.path().join(FILE), Permissions::from_mode(mode)).unwrap();
        let error = open(&directory).await.unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
    }
}

#[tokio::test]
async fn a_lost_or_exchanged_key_is_not_replaced_by_a_new_one() {
    let (directory, other) = (tempdir().unwrap(), tempdir().unwrap());
    open(&directory).await.unwrap();
    open(&other).await.unwrap();
    let file = directory.path().join(FILE);
    fs::remove_file(&file).unwrap();
    assert!(matches!(open(&directory).await, Err(MasterKeyError::Missing(_))));
    assert!(!file.exists());
    fs::copy(other.path().join(FILE), &file).unwrap();
    assert!(matches!(open(&directory).await, Err(MasterKeyError::Another(_))));
}

#[tokio::test]
async fn a_file_that_is_no_key_is_refused_and_its_content_not_shown() {
    let directory = tempdir().unwrap();
    open(&directory).await.unwrap();
    let file = directory.path().join(FILE);
    let good = fs::read_to_string(&file).unwrap();
    for bad in
        ["", PREFIX, "hunter2\n", &good[..good.len() - 3], &format!("{}AA", good.trim_end()), &good.repeat(3)]
    {
        fs::write(&file, bad).unwrap();
        let error = open(&directory).await.unwrap_err();
        assert!(matches!(error, MasterKeyError::Malformed(_)), "{bad:?}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn d21_one_label_derives_one_key_and_no_other() {
    let directory = tempdir().unwrap();
    let key = open(&directory).await.unwrap();
    let derive = |label| *key.derive(label).expose();
    assert_eq!(derive("challenge"), derive("challenge"));
    assert_ne!(derive("challenge"), derive("challenge2"));
    assert_ne!(derive("challenge"), *key.0.expose());
}

#[tokio::test]
async fn the_key_does_not_show() {
    let directory = tempdir().unwrap();
    assert_eq!(format!("{:?}", open(&directory).await.unwrap()), "MasterKey([key])");
}
