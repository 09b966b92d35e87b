//! `customClaims`: a claim of the token held against a value (`contract.md` 3.7, ADR 0021).

use serde::{Deserialize, Serialize};

use crate::issuer::{ClaimValue, VerifiedClaims};

/// One entry of `customClaims`, as AWS writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomClaim {
    /// Which claim.
    pub inbound_token_claim_name: String,
    /// Of which form it must be.
    pub inbound_token_claim_value_type: ClaimValueType,
    /// What it must say.
    pub authorizing_claim_match_value: AuthorizingClaimMatchValue,
}

/// `InboundTokenClaimValueType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimValueType {
    /// One text.
    #[serde(rename = "STRING")]
    Text,
    /// A list of texts.
    #[serde(rename = "STRING_ARRAY")]
    Texts,
}

/// `AuthorizingClaimMatchValueType`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizingClaimMatchValue {
    /// The value, or the values.
    pub claim_match_value: ClaimMatchValue,
    /// How they are compared.
    pub claim_match_operator: ClaimMatchOperator,
}

/// `ClaimMatchValueType`: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClaimMatchValue {
    /// For EQUALS and CONTAINS.
    MatchValueString(String),
    /// For CONTAINS_ANY.
    MatchValueStringList(Vec<String>),
}

/// `ClaimMatchOperatorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClaimMatchOperator {
    /// The text is the value, byte for byte.
    Equals,
    /// The list has the value. Of a text: the value is one of its **words**, which single spaces separate as in `scope`
    /// (RFC 6749 §3.3). What AWS means there is not known; a part of a word is never enough, so that `nonadmin` is no `admin`.
    Contains,
    /// The list has one of the values.
    ContainsAny,
}

impl CustomClaim {
    /// That a `STRING` must say exactly this, which is what presets ask for.
    pub fn equals(name: &str, value: &str) -> Self {
        Self {
            inbound_token_claim_name: name.to_owned(),
            inbound_token_claim_value_type: ClaimValueType::Text,
            authorizing_claim_match_value: AuthorizingClaimMatchValue {
                claim_match_value: ClaimMatchValue::MatchValueString(value.to_owned()),
                claim_match_operator: ClaimMatchOperator::Equals,
            },
        }
    }

    /// Whether the token's claim is of the right form and says what it must. A claim that is not there does not hold, nor does a
    /// rule of a form that no release stores.
    pub fn holds(&self, claims: &VerifiedClaims) -> bool {
        use ClaimMatchOperator::{Contains, ContainsAny, Equals};
        use ClaimMatchValue::{MatchValueString, MatchValueStringList};
        let wanted = &self.authorizing_claim_match_value;
        let Some(found) = claims.custom(&self.inbound_token_claim_name) else { return false };
        match (self.inbound_token_claim_value_type, found) {
            (ClaimValueType::Text, ClaimValue::Text(text)) => {
                match (wanted.claim_match_operator, &wanted.claim_match_value) {
                    (Equals, MatchValueString(value)) => text == value,
                    (Contains, MatchValueString(value)) => text.split(' ').any(|word| word == value),
                    _ => false,
                }
            }
            (ClaimValueType::Texts, ClaimValue::Texts(texts)) => {
                match (wanted.claim_match_operator, &wanted.claim_match_value) {
                    (Contains, MatchValueString(value)) => texts.contains(value),
                    (ContainsAny, MatchValueStringList(values)) => {
                        texts.iter().any(|text| values.contains(text))
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

impl ClaimValueType {
    /// Whether a claim of this form can be compared so: what both readings of AWS's documentation allow (`contract.md` 3.7).
    pub const fn admits(self, operator: ClaimMatchOperator) -> bool {
        match (self, operator) {
            (Self::Text, ClaimMatchOperator::Equals) | (_, ClaimMatchOperator::Contains) => true,
            (Self::Texts, ClaimMatchOperator::ContainsAny) => true,
            (Self::Text, ClaimMatchOperator::ContainsAny) | (Self::Texts, ClaimMatchOperator::Equals) => {
                false
            }
        }
    }
}
