//! The contracts of the KMS adapters, on moto.

mod wrapper {
    use std::sync::Arc;

    use agent_identity_aws::KmsWrapper;
    use agent_identity_testkit::contract::wrapper::Wrappers;
    use aws_sdk_kms::Client;

    use crate::place;

    async fn new_key(client: &Client) -> String {
        client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    async fn make() -> Wrappers<()> {
        let moto = place::moto();
        let client = Client::new(&place::config(&moto));
        let (ours, other) = (new_key(&client).await, new_key(&client).await);
        let wrapper = |key| Arc::new(KmsWrapper::new(place::connection(&moto), key, Vec::new()));
        Wrappers { ours: wrapper(ours), other: wrapper(other), kept: () }
    }

    agent_identity_testkit::wrapper_contract!(make());

    #[tokio::test]
    async fn what_a_former_key_wrapped_is_wrapped_anew_and_needs_it_no_more() {
        use agent_identity_core::seal::{Key32, KeyWrapper as _, SealError};
        let moto = place::moto();
        let client = Client::new(&place::config(&moto));
        let (former, current) = (new_key(&client).await, new_key(&client).await);
        let context = [("vault", "default"), ("version", "1"), ("purpose", "wat")];
        let other = [("vault", "default"), ("version", "2"), ("purpose", "wat")];
        let before = KmsWrapper::new(place::connection(&moto), former.clone(), Vec::new());
        let wrapped = before.wrap(&Key32::new([7; 32]), &context).await.unwrap();
        assert_eq!(before.rewrap(&wrapped, &context).await.unwrap(), None, "there is nothing to do");
        let after = KmsWrapper::new(place::connection(&moto), current.clone(), vec![former.clone()]);
        assert!(
            matches!(after.rewrap(&wrapped, &other).await, Err(SealError::Broken)),
            "the context is kept"
        );
        let anew = after.rewrap(&wrapped, &context).await.unwrap().unwrap();
        let id = former.rsplit('/').next().unwrap_or_default();
        client.disable_key().key_id(id).send().await.unwrap();
        let forgetful = KmsWrapper::new(place::connection(&moto), current, Vec::new());
        assert_eq!(forgetful.unwrap_key(&anew, &context).await.unwrap().expose(), &[7; 32]);
    }

    /// moto deletes no key, so that one which is gone is one that it never had; and it unwraps with keys that are disabled, so that what KMS
    /// says of those is in the tests of `wrapper`.
    #[tokio::test]
    async fn only_what_a_deleted_key_wrapped_is_lost() {
        use agent_identity_core::seal::{Key32, KeyWrapper as _, SealError};
        let moto = place::moto();
        let client = Client::new(&place::config(&moto));
        let (former, current) = (new_key(&client).await, new_key(&client).await);
        let gone = format!("{}/00000000-0000-4000-8000-000000000000", former.split('/').next().unwrap());
        let context = [("vault", "default"), ("version", "1"), ("purpose", "wat")];
        let before = KmsWrapper::new(place::connection(&moto), former.clone(), Vec::new());
        let wrapped = before.wrap(&Key32::new([7; 32]), &context).await.unwrap();
        let configured = |former: &[&String]| {
            let former = former.iter().map(|key| (*key).clone()).collect();
            KmsWrapper::new(place::connection(&moto), current.clone(), former)
        };
        let lost =
            async |wrapper: KmsWrapper, by: Option<&str>| wrapper.is_lost(&wrapped, &context, by).await;
        let may_come_back = |answer| matches!(answer, Err(SealError::KeyUnavailable(_)));

        assert!(!lost(configured(&[&former]), Some(&former)).await.unwrap(), "it unwraps");
        assert!(
            !lost(configured(&[]), Some(&former)).await.unwrap(),
            "also where only the row names its key"
        );
        assert!(may_come_back(lost(configured(&[]), None).await), "nobody says which key it was");
        // As if the deleted key had wrapped it.
        assert!(lost(configured(&[]), Some(&gone)).await.unwrap());
    }

    #[tokio::test]
    async fn what_a_former_key_wrapped_still_unwraps() {
        use agent_identity_core::seal::{Key32, KeyWrapper as _};
        let moto = place::moto();
        let client = Client::new(&place::config(&moto));
        let (former, current) = (new_key(&client).await, new_key(&client).await);
        let context = [("vault", "default"), ("version", "1"), ("purpose", "wat")];
        let before = KmsWrapper::new(place::connection(&moto), former.clone(), Vec::new());
        let wrapped = before.wrap(&Key32::new([7; 32]), &context).await.unwrap();
        let after = KmsWrapper::new(place::connection(&moto), current.clone(), vec![former]);
        assert_eq!(after.unwrap_key(&wrapped, &context).await.unwrap().expose(), &[7; 32]);
        let forgetful = KmsWrapper::new(place::connection(&moto), current, Vec::new());
        assert!(forgetful.unwrap_key(&wrapped, &context).await.is_err());
    }
}

mod signing {
    use std::sync::Arc;

    use agent_identity_aws::KmsSigningKeys;
    use agent_identity_core::encoding::base64url;
    use agent_identity_core::port::SigningAlgorithm;
    use agent_identity_testkit::contract::signing::{ALGORITHMS, Keys, PROVIDER, SigningKey};
    use aws_sdk_kms::Client;
    use aws_sdk_kms::types::{KeySpec, KeyUsageType, Tag};
    use serde_json::{Value, json};

    use crate::place;

    /// The public key as a JWK, from the SubjectPublicKeyInfo that KMS gives.
    fn jwk(algorithm: SigningAlgorithm, der: &[u8]) -> Value {
        match algorithm {
            SigningAlgorithm::ES256 => {
                let point = &der[der.len() - 64..];
                json!({
                    "kty": "EC", "crv": "P-256", "alg": "ES256",
                    "x": base64url(&point[..32]), "y": base64url(&point[32..]),
                })
            }
            SigningAlgorithm::RS256 | SigningAlgorithm::PS256 => {
                // … INTEGER modulus (257 bytes with its leading zero), INTEGER exponent 65537 at the very end.
                let modulus = &der[der.len() - 5 - 256..der.len() - 5];
                json!({
                    "kty": "RSA", "alg": algorithm.as_str(),
                    "n": base64url(modulus), "e": base64url([1, 0, 1]),
                })
            }
        }
    }

    async fn make() -> Keys<()> {
        let moto = place::moto();
        let client = Client::new(&place::config(&moto));
        let mut keys = Vec::new();
        // moto's PSS salt has the longest length, and not the digest's, as KMS and RFC 7518 §3.5 say.
        for algorithm in ALGORITHMS.into_iter().filter(|it| *it != SigningAlgorithm::PS256) {
            let spec = match algorithm {
                SigningAlgorithm::ES256 => KeySpec::EccNistP256,
                SigningAlgorithm::RS256 | SigningAlgorithm::PS256 => KeySpec::Rsa2048,
            };
            let tag = Tag::builder().tag_key("agent-identity:provider").tag_value(PROVIDER).build().unwrap();
            let made = client
                .create_key()
                .key_usage(KeyUsageType::SignVerify)
                .key_spec(spec)
                .tags(tag)
                .send()
                .await
                .unwrap();
            let arn = made.key_metadata.unwrap().arn.unwrap();
            let public = client.get_public_key().key_id(&arn).send().await.unwrap().public_key.unwrap();
            keys.push(SigningKey { public_jwk: jwk(algorithm, public.as_ref()), arn, algorithm });
        }
        Keys { port: Arc::new(KmsSigningKeys::new(place::connection(&moto))), keys, kept: () }
    }

    agent_identity_testkit::signing_contract!(make());
}
