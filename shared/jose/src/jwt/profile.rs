//! A token held against the profiles of several rules: the same order and the same checks as for an issuer's record, with the
//! claims handed on instead of the record's audience and client.

use agent_identity_core::Secret;
use agent_identity_core::issuer::{TokenProfile, TokenRefused, VerifiedClaims};

use super::claims::Claims;
use super::compact::Compact;
use super::header::Header;
use super::refusal::refused;
use super::{JwtVerifier, rule, times};
use crate::keys::is_issuer_url;

impl JwtVerifier {
    /// `TokenVerifier::verify_claims`.
    pub(super) async fn verify_profiles(
        &self,
        token: &Secret,
        profiles: &[TokenProfile],
    ) -> Result<VerifiedClaims, TokenRefused> {
        let token = Compact::parse(token.expose())?;
        let header = Header::parse(&token.header)?;
        let asked = || profiles.iter().flat_map(|it| &it.claims).map(String::as_str);
        let wanted: Vec<&str> = profiles.iter().map(|it| it.subject_claim.as_str()).chain(asked()).collect();
        let claims = Claims::parse_with_scopes(&token.payload, &wanted)?;

        let mut left: Vec<(usize, &TokenProfile)> = profiles
            .iter()
            .enumerate()
            .filter(|(_, profile)| profile.issuers.iter().any(|issuer| *issuer == claims.issuer))
            .collect();
        if left.is_empty() || !is_issuer_url(&claims.issuer) {
            return Err(refused("issuer", "its issuer is not trusted here"));
        }
        left.retain(|(_, profile)| rule::accepts_type(profile.typ.as_deref(), header.typ.as_deref()));
        if left.is_empty() {
            return Err(refused("typ", "its `typ` is not the one that is accepted from its issuer"));
        }
        left.retain(|(_, profile)| {
            profile.algorithms.is_empty() || profile.algorithms.contains(&header.algorithm)
        });
        if left.is_empty() {
            return Err(refused("algorithm", "its `alg` is not one that is accepted from its issuer"));
        }

        let mut refusals = Refusals::default();
        // Which keys may verify depends on whether the algorithm was asked for by name, so that one profile's choice does not
        // widen another's.
        for named in [true, false] {
            let asks = |profile: &TokenProfile| profile.algorithms.is_empty() != named;
            if !left.iter().any(|(_, profile)| asks(profile)) {
                continue;
            }
            match self.verify_signature(&token, &header, &claims.issuer, true, named).await {
                Ok(()) => {}
                Err(refusal @ TokenRefused::Invalid { .. }) => {
                    left.retain(|(_, profile)| !asks(profile));
                    refusals.note(refusal);
                }
                Err(unavailable) => return Err(unavailable),
            }
        }
        let now = self.clock.now();
        left.retain(|(_, profile)| {
            refusals.passes(times::check(&claims, now, profile.leeway, profile.max_age))
        });
        left.retain(|(_, profile)| refusals.passes(rule::subject(&claims, &profile.subject_claim)));
        let Some(subject_claim) = left.first().map(|(_, profile)| profile.subject_claim.as_str()) else {
            return Err(refusals.into_last());
        };
        let subject = rule::subject(&claims, subject_claim)?.to_owned();
        let met = left
            .iter()
            .filter(|(_, profile)| profile.subject_claim == subject_claim)
            .map(|(place, _)| *place)
            .collect();
        Ok(claims.hand_on(subject_claim, subject, asked(), met))
    }
}

/// Why profiles fell away. The last reason is that of the profile that came furthest.
#[derive(Default)]
struct Refusals(Option<TokenRefused>);

impl Refusals {
    fn note(&mut self, refusal: TokenRefused) {
        self.0 = Some(refusal);
    }

    fn passes<T>(&mut self, checked: Result<T, TokenRefused>) -> bool {
        checked.map_err(|refusal| self.note(refusal)).is_ok()
    }

    fn into_last(self) -> TokenRefused {
        self.0.unwrap_or_else(|| refused("issuer", "its issuer is not trusted here"))
    }
}
