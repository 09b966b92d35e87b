//! Signing keys in the database: private halves sealed, public halves for registration at the provider.

use std::sync::Arc;

use agent_identity_core::arn::Place;
use agent_identity_core::encoding::base64url;
use agent_identity_core::grant::Pattern;
use agent_identity_core::port::{SecretError, SigningAlgorithm, SigningKeys};
use agent_identity_core::random::Random;
use agent_identity_core::seal::{Context, Purpose, Sealer};
use agent_identity_core::{Id, ProviderName};
use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom as Entropy;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding,
};
use rusqlite::{ErrorCode, OptionalExtension as _, params};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::LocalName;
use crate::database::{Database, store_error};
use crate::secrets::{may_use, reseal, stored_pattern};

#[cfg(test)]
mod tests;

/// The signing keys of one machine.
pub struct LocalSigningKeys {
    database: Database,
    sealer: Arc<dyn Sealer>,
    random: Arc<dyn Random>,
    place: Place,
}

/// What a list of signing keys shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyEntry {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What it signs with.
    pub algorithm: String,
}

impl LocalSigningKeys {
    /// The keys in `database`, sealed by `sealer`; `place` says how their ARNs begin.
    pub fn new(database: Database, sealer: Arc<dyn Sealer>, random: Arc<dyn Random>, place: Place) -> Self {
        Self { database, sealer, random, place }
    }

    /// Makes a key (P-256, or RSA with 2,048 bits) and returns its ARN. It signs with this algorithm alone. With
    /// `providers`, only providers whose name matches may use it (D2); without, all may.
    ///
    /// # Errors
    /// [`SecretError::Denied`] when there is a key of this name; [`SecretError::Failed`], [`SecretError::Busy`].
    pub async fn create(
        &self,
        name: &LocalName,
        algorithm: SigningAlgorithm,
        providers: Option<&Pattern>,
    ) -> Result<String, SecretError> {
        let arn = self.place.signing_key(&Id::<Self>::random(&*self.random).hyphenated());
        let generated = tokio::task::spawn_blocking(move || generate(algorithm)).await.map_err(broken)??;
        let Generated { private, mut public } = generated;
        if let Some(jwk) = public.as_object_mut() {
            jwk.extend([
                ("use".to_owned(), json!("sig")),
                ("alg".to_owned(), json!(algorithm.as_str())),
                ("kid".to_owned(), json!(name.as_str())),
            ]);
        }
        let providers = stored_pattern(providers)?;
        let context = context(&arn, algorithm.as_str(), providers.as_deref());
        let sealed =
            self.sealer.seal(Purpose::Secret, &context, &private).await.map_err(SecretError::from)?;
        let (stored, name, taken) = (arn.clone(), name.to_string(), name.to_string());
        let created = self
            .database
            .write(move |connection| {
                let inserted = connection.execute(
                    "INSERT INTO signing_keys (arn, name, algorithm, providers, public_jwk, sealed)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![stored, name, algorithm.as_str(), providers, public.to_string(), sealed],
                );
                match inserted {
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                        Ok(false)
                    }
                    inserted => inserted.map(|_| true).map_err(store_error),
                }
            })
            .await
            .map_err(SecretError::from)?;
        if !created {
            return Err(SecretError::Denied(format!("there is a signing key named `{taken}` already")));
        }
        Ok(arn)
    }

    /// All keys, by name.
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`].
    pub async fn list(&self) -> Result<Vec<SigningKeyEntry>, SecretError> {
        self.database
            .read(|connection| {
                connection
                    .prepare("SELECT name, arn, algorithm FROM signing_keys ORDER BY name")?
                    .query_map([], |row| {
                        Ok(SigningKeyEntry { name: row.get(0)?, arn: row.get(1)?, algorithm: row.get(2)? })
                    })?
                    .collect()
            })
            .map_err(SecretError::from)
    }

    /// The public half of a key as a JWK (RFC 7517), which its owner registers at the provider.
    ///
    /// # Errors
    /// [`SecretError::NotFound`], [`SecretError::Failed`], [`SecretError::Busy`].
    pub async fn public_jwk(&self, name: &LocalName) -> Result<Value, SecretError> {
        let text: Option<String> = self
            .database
            .read(|connection| {
                connection
                    .query_row(
                        "SELECT public_jwk FROM signing_keys WHERE name = ?1",
                        [name.as_str()],
                        |row| row.get(0),
                    )
                    .optional()
            })
            .map_err(SecretError::from)?;
        let text =
            text.ok_or_else(|| SecretError::NotFound(format!("there is no signing key named `{name}`")))?;
        serde_json::from_str(&text).map_err(broken)
    }
}

#[async_trait]
impl SigningKeys for LocalSigningKeys {
    async fn sign(
        &self,
        key_arn: &str,
        algorithm: SigningAlgorithm,
        message: &[u8],
        provider: &ProviderName,
    ) -> Result<Vec<u8>, SecretError> {
        let found: Option<(String, Option<String>, Vec<u8>)> = self
            .database
            .read(|connection| {
                connection
                    .prepare_cached("SELECT algorithm, providers, sealed FROM signing_keys WHERE arn = ?1")?
                    .query_row([key_arn], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(SecretError::from)?;
        let (stored, providers, sealed) =
            found.ok_or_else(|| SecretError::NotFound(format!("there is no signing key `{key_arn}`")))?;
        if !may_use(providers.as_deref(), provider)? {
            let refused = format!("signing key `{key_arn}` may not be used by provider `{provider}`");
            return Err(SecretError::Denied(refused));
        }
        if stored != algorithm.as_str() {
            let refused =
                format!("signing key `{key_arn}` signs with {stored}, not with {}", algorithm.as_str());
            return Err(SecretError::Denied(refused));
        }
        let context = context(key_arn, &stored, providers.as_deref());
        let private =
            self.sealer.open(Purpose::Secret, &context, &sealed).await.map_err(SecretError::from)?;
        sign(algorithm, &private, message)
    }

    /// As in [`LocalSigningKeys::public_jwk`].
    async fn key_id(&self, key_arn: &str) -> Result<Option<String>, SecretError> {
        let name = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT name FROM signing_keys WHERE arn = ?1")?
                .query_row([key_arn], |row| row.get(0))
                .optional()
        })?;
        Ok(name)
    }

    async fn reseal(&self) -> Result<usize, SecretError> {
        let values = self.database.read(|connection| {
            connection
                .prepare("SELECT arn, algorithm, providers, sealed FROM signing_keys")?
                .query_map([], |row| {
                    let (arn, algorithm): (String, String) = (row.get(0)?, row.get(1)?);
                    let providers: Option<String> = row.get(2)?;
                    Ok((context(&arn, &algorithm, providers.as_deref()), row.get(3)?))
                })?
                .collect()
        })?;
        reseal(&self.database, &*self.sealer, "signing_keys", values).await
    }
}

struct Generated {
    private: Zeroizing<Vec<u8>>,
    public: Value,
}

/// A fresh key pair: PKCS#8, and the members of the JWK that RFC 7518 §6 defines.
fn generate(algorithm: SigningAlgorithm) -> Result<Generated, SecretError> {
    match algorithm {
        SigningAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(broken)?;
            let private = pair.to_pkcs8v1().map_err(broken)?;
            // SEC 1 §2.3.3: 4, then x and y of 32 bytes each.
            let (x, y) = match pair.public_key().as_ref() {
                [4, point @ ..] if point.len() == 64 => point.split_at(32),
                _ => return Err(broken("a point has an unknown form")),
            };
            Ok(Generated {
                private: Zeroizing::new(private.as_ref().to_vec()),
                public: json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)}),
            })
        }
        SigningAlgorithm::RS256 | SigningAlgorithm::PS256 => {
            let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(broken)?;
            let private: Pkcs8V1Der<'_> = pair.as_der().map_err(broken)?;
            let n = modulus(pair.public_key().as_ref())?;
            Ok(Generated {
                private: Zeroizing::new(private.as_ref().to_vec()),
                public: json!({"kty": "RSA", "n": base64url(n), "e": "AQAB"}),
            })
        }
    }
}

/// The modulus in an `RSAPublicKey` (RFC 8017 appendix A.1.1) of 2,048 bits with the exponent 65537. Such a one has one DER
/// form, so that two constants are the whole parser.
fn modulus(public: &[u8]) -> Result<&[u8], SecretError> {
    const BEFORE: [u8; 9] = [0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0];
    const AFTER: [u8; 5] = [2, 3, 1, 0, 1];
    public
        .strip_prefix(&BEFORE)
        .and_then(|rest| rest.strip_suffix(&AFTER))
        .filter(|modulus| modulus.len() == 256)
        .ok_or_else(|| broken("an RSA key has an unknown form"))
}

fn sign(algorithm: SigningAlgorithm, private: &[u8], message: &[u8]) -> Result<Vec<u8>, SecretError> {
    let rsa = |padding: &'static dyn RsaEncoding| {
        let pair = rsa::KeyPair::from_pkcs8(private).map_err(broken)?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &Entropy::new(), message, &mut signature).map_err(broken)?;
        Ok(signature)
    };
    match algorithm {
        SigningAlgorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
        SigningAlgorithm::PS256 => rsa(&RSA_PSS_SHA256),
        SigningAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private).map_err(broken)?;
            Ok(pair.sign(&Entropy::new(), message).map_err(broken)?.as_ref().to_vec())
        }
    }
}

/// What a private half is bound to: its ARN, its algorithm, and who may use it.
fn context(arn: &str, algorithm: &str, providers: Option<&str>) -> Context {
    let providers = providers.unwrap_or_default();
    Context::new("signing key", [arn.as_bytes(), algorithm.as_bytes(), providers.as_bytes()])
}

fn broken(error: impl std::fmt::Display) -> SecretError {
    SecretError::Failed(format!("a signing key cannot be used: {error}"))
}
