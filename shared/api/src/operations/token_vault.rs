//! The token vault on the wire. There is one, which is called `default`.

use agent_identity_core::Error;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::Principal;
use agent_identity_service::token_vault::{
    GetTokenVault, ResetTokenVaultKeyMaterial, SetTokenVaultCmk, TokenVault,
};
use serde_json::{Value, json};

use super::authorize;
use crate::fields::{Members, one_of, patterned};
use crate::{Api, Failure};

const VAULT: &str = "default";

#[derive(Clone, Copy)]
enum KeyType {
    CustomerManaged,
    ServiceManaged,
}

/// `[a-zA-Z0-9\-_]{1,64}`
fn id(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    patterned(1, 64, allowed, "[a-zA-Z0-9\\-_]+")(text)
}

/// `tokenVaultId`; the one that there is when it is left out.
fn vault_id(body: &Members) -> Option<String> {
    Some(body.text("tokenVaultId", id)?.unwrap_or_else(|| VAULT.to_owned()))
}

fn check_vault(id: &str) -> Result<(), Failure> {
    if id == VAULT {
        return Ok(());
    }
    let message = format!("there is no token vault `{id}`; there is one, and it is called `{VAULT}`");
    Err(Error::new(ErrorKind::NotFound, message).into())
}

/// `arn:aws(|-cn|-us-gov):kms:[a-zA-Z0-9-]*:[0-9]{12}:key/[a-zA-Z0-9-]{36}`
fn key_arn(text: &str) -> Result<String, String> {
    let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_arn = match parts.as_slice() {
        ["arn", "aws" | "aws-cn" | "aws-us-gov", "kms", region, account, key] => {
            let id = key.strip_prefix("key/");
            is_word(region)
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && id.is_some_and(|id| id.len() == 36 && is_word(id))
        }
        _ => false,
    };
    let wrong = "must be the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID";
    if is_arn { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

/// `kmsConfiguration`: the key that is wanted, none for one that is not the customer's.
fn kms_configuration(body: &Members) -> Option<Option<String>> {
    const TYPES: &[(&str, KeyType)] =
        &[("CustomerManagedKey", KeyType::CustomerManaged), ("ServiceManagedKey", KeyType::ServiceManaged)];
    let members = body.required_object("kmsConfiguration")?;
    let key_type = members.required("keyType", one_of(TYPES));
    let arn = members.text("kmsKeyArn", key_arn);
    match (key_type?, arn?) {
        (KeyType::CustomerManaged, None) => {
            members.wrong("kmsKeyArn", "is required when keyType is CustomerManagedKey");
            None
        }
        (KeyType::ServiceManaged, Some(_)) => {
            members.wrong("kmsKeyArn", "is for keyType CustomerManagedKey only");
            None
        }
        (_, arn) => Some(arn),
    }
}

fn answer(vault: &TokenVault) -> Value {
    let kms = match &vault.kms_key_arn {
        Some(arn) => json!({ "keyType": "CustomerManagedKey", "kmsKeyArn": arn }),
        None => json!({ "keyType": "ServiceManagedKey" }),
    };
    json!({
        "tokenVaultId": VAULT,
        "kmsConfiguration": kms,
        "lastModifiedDate": vault.changed_at.as_seconds_f64(),
    })
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let id = vault_id(&body);
    let id = body.finish(id)?;
    let action = authorize(principal, GetTokenVault)?;
    check_vault(&id)?;
    Ok(answer(&api.services.get_token_vault(action).await?))
}

pub(super) async fn set_cmk(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (id, kms_key_arn) = (vault_id(&body), kms_configuration(&body));
    let (id, kms_key_arn) = body.finish((|| Some((id?, kms_key_arn?)))())?;
    let action = authorize(principal, SetTokenVaultCmk { kms_key_arn })?;
    check_vault(&id)?;
    Ok(answer(&api.services.set_token_vault_cmk(action).await?))
}

pub(super) async fn reset(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let id = body.required("tokenVaultId", id);
    let id = body.finish(id)?;
    let action = authorize(principal, ResetTokenVaultKeyMaterial)?;
    check_vault(&id)?;
    Ok(answer(&api.services.reset_token_vault_key_material(action).await?))
}
