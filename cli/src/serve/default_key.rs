//! The access key that `serve` makes for itself at first start: `DIR/access-key.json`, good on loopback only (D21).

use std::path::Path;

use agent_identity_core::grant::Grant;
use agent_identity_service::Services;
use agent_identity_service::access_key::{AccessKeyRequest, DEFAULT_NAME};

use crate::CommandResult;
use crate::data_dir::DefaultKey;

/// Makes the key when there is none that works. Processes that start at the same time end with the same key.
///
/// # Errors
/// Those of the store and the file system.
pub async fn ensure(data: &Path, services: &Services) -> CommandResult {
    let _one_at_a_time = agent_identity_local::lock_directory(data).await?;
    if let Some(key) = DefaultKey::read(data)?
        && services.access_key(&key.access_key_id).await?.is_some()
    {
        return Ok(());
    }
    // A key on record without its file, or a file without its record: a start that was cut off, or a file that was
    // removed to get a new key.
    let stale = services.list_access_keys().await?;
    for key in stale.iter().filter(|key| key.value.loopback_only) {
        services.revoke_access_key(&key.value.id).await?;
    }
    let key = services
        .create_access_key(AccessKeyRequest {
            name: DEFAULT_NAME.to_owned(),
            grants: vec![Grant::everything()],
            life: None,
            loopback_only: true,
        })
        .await?;
    DefaultKey { access_key_id: key.id, secret_access_key: key.secret_access_key }.write(data)
}

/// Whether there are access keys that somebody made and that let somebody in.
///
/// # Errors
/// Those of the store.
pub async fn others(services: &Services) -> CommandResult<bool> {
    let now = services.ports().clock.now();
    Ok(services.list_access_keys().await?.iter().map(|key| &key.value).any(|key| {
        !key.loopback_only && !key.principal.grants.is_empty() && key.expires_at.is_none_or(|end| now < end)
    }))
}
