//! [`RootedAuthorizerKeys`]: keys of authorizers under a root key of their own (D16).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::authorizer::{AuthorizerKey, AuthorizerKeyId, KeyOwner, KeyPurpose};
use agent_identity_core::encoding::unbase64url;
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::{AuthorizerKeys, Context, Key32, KeyWrapper, SealError};
use agent_identity_core::{Clock, Id};
use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{KEY_LIFE, envelope};

/// Unwrapped keys of at most so many authorizers are kept.
const MAX_HELD: usize = 1000;

/// After a root key that did not answer, how long until it is asked again for the same key.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Unwrapped = Result<Arc<Key32>, SealError>;

/// What the root key said, and when it was asked, as `Clock::elapsed` says.
#[derive(Clone)]
struct Held {
    unwrapped: Unwrapped,
    since: Duration,
}

impl Held {
    fn is_good(&self, now: Duration) -> bool {
        let life = if self.unwrapped.is_ok() { KEY_LIFE } else { RETRY_AFTER };
        now.saturating_sub(self.since) < life
    }
}

/// The adapter over a [`KeyWrapper`], with unwrapped keys kept for [`KEY_LIFE`].
pub struct RootedAuthorizerKeys {
    root: Arc<dyn KeyWrapper>,
    purposes: Vec<KeyPurpose>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    held: Mutex<HashMap<(KeyOwner, Id<AuthorizerKeyId>), Held>>,
    /// Held while the root key is asked, so that many callers cost one call.
    asking: tokio::sync::Mutex<()>,
}

impl RootedAuthorizerKeys {
    /// Asks for nothing yet.
    pub fn new(root: Arc<dyn KeyWrapper>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            root,
            purposes: KeyPurpose::ALL.to_vec(),
            clock,
            random,
            held: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The same for these purposes alone: the root key is for no other in this deployment.
    #[must_use]
    pub fn only_for(self, purposes: Vec<KeyPurpose>) -> Self {
        Self { purposes, ..self }
    }

    fn held(&self, owner: KeyOwner, id: Id<AuthorizerKeyId>) -> Option<Unwrapped> {
        let now = self.clock.elapsed();
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(owner, id)).filter(|held| held.is_good(now)).map(|held| held.unwrapped.clone())
    }

    fn hold(&self, owner: KeyOwner, id: Id<AuthorizerKeyId>, held: Held) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_HELD {
            all.retain(|_, other| other.is_good(held.since));
            // All of them in use within five minutes: forgetting costs a call each.
            if all.len() >= MAX_HELD {
                all.clear();
            }
        }
        all.insert((owner, id), held);
    }

    async fn unwrapped(&self, owner: KeyOwner, key: &AuthorizerKey) -> Unwrapped {
        if let Some(known) = self.held(owner, key.id) {
            return known;
        }
        let _turn = self.asking.lock().await;
        if let Some(known) = self.held(owner, key.id) {
            return known;
        }
        let since = self.clock.elapsed();
        let unwrapped = self.unwrap_now(owner, key).await.map(Arc::new);
        self.hold(owner, key.id, Held { unwrapped: unwrapped.clone(), since });
        unwrapped
    }

    async fn unwrap_now(&self, owner: KeyOwner, key: &AuthorizerKey) -> Result<Key32, SealError> {
        let unusable = || {
            SealError::KeyUnavailable(
                "an authorizer's key does not unwrap under the root key for them".to_owned(),
            )
        };
        let wrapped = unbase64url(&key.wrapped).ok_or_else(unusable)?;
        let names = Names::of(owner, key.id);
        match self.root.unwrap_key(&wrapped, &names.context()).await {
            // What is wrong then is the record or the root key, not what somebody wants to open.
            Err(SealError::Broken) => Err(unusable()),
            other => other,
        }
    }
}

/// The texts of a wrapping's context.
struct Names {
    purpose: &'static str,
    workload: String,
    key: String,
}

impl Names {
    fn of(owner: KeyOwner, id: Id<AuthorizerKeyId>) -> Self {
        Self { purpose: owner.purpose.as_str(), workload: owner.workload.to_string(), key: id.to_string() }
    }

    fn context(&self) -> [(&'static str, &str); 3] {
        [("purpose", self.purpose), ("workload", &self.workload), ("key", &self.key)]
    }
}

#[async_trait]
impl AuthorizerKeys for RootedAuthorizerKeys {
    fn is_for(&self, purpose: KeyPurpose) -> bool {
        self.purposes.contains(&purpose)
    }

    async fn create(&self, owner: KeyOwner) -> Result<AuthorizerKey, SealError> {
        let id = Id::random(&*self.random);
        let key = Key32::new(random::bytes(&*self.random));
        let names = Names::of(owner, id);
        let since = self.clock.elapsed();
        let wrapped = self.root.wrap(&key, &names.context()).await?;
        // Who has made a key may seal with it at once, and need not be allowed to unwrap any.
        self.hold(owner, id, Held { unwrapped: Ok(Arc::new(key)), since });
        Ok(AuthorizerKey::new(id, &wrapped))
    }

    #[expect(
        clippy::expect_used,
        reason = "it fails only without memory or beyond 64 GiB, and going on would lose what was to be kept"
    )]
    async fn seal(
        &self,
        owner: KeyOwner,
        key: &AuthorizerKey,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.unwrapped(owner, key).await?;
        let salt = random::bytes(&*self.random);
        Ok(envelope::seal(&key, context, &salt, &[], plaintext).expect("sealing a value in memory"))
    }

    async fn open(
        &self,
        owner: KeyOwner,
        key: &AuthorizerKey,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        envelope::open(&*self.unwrapped(owner, key).await?, context, sealed)
    }
}
