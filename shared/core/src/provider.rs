//! Credential providers: named OAuth2 clients and API keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::port::{SigningAlgorithm, StoredSecret};
use crate::tag::Tags;
use crate::{Id, ProviderName, Secret, Timestamp};

macro_rules! vendors {
    ($($(#[$doc:meta])* $variant:ident $wire:literal $member:ident,)*) => {
        /// Vendors of OAuth2 providers (`CredentialProviderVendorType`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Vendor {
            $($(#[$doc])* #[serde(rename = $wire)] $variant,)*
        }

        impl Vendor {
            /// All 25 of them, in the model's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// The member of the configuration union that this vendor takes (`contract.md` 3.1).
            pub const fn config_member(self) -> ConfigMember {
                match self { $(Self::$variant => ConfigMember::$member,)* }
            }
        }
    };
}

vendors! {
    /// Google.
    Google "GoogleOauth2" Google,
    /// GitHub.
    Github "GithubOauth2" Github,
    /// Slack.
    Slack "SlackOauth2" Slack,
    /// Salesforce.
    Salesforce "SalesforceOauth2" Salesforce,
    /// Microsoft Entra ID.
    Microsoft "MicrosoftOauth2" Microsoft,
    /// Any OAuth 2 server, by discovery or metadata.
    Custom "CustomOauth2" Custom,
    /// Atlassian.
    Atlassian "AtlassianOauth2" Atlassian,
    /// LinkedIn.
    Linkedin "LinkedinOauth2" Linkedin,
    /// X.
    X "XOauth2" Included,
    /// Okta.
    Okta "OktaOauth2" Included,
    /// OneLogin.
    OneLogin "OneLoginOauth2" Included,
    /// PingOne.
    PingOne "PingOneOauth2" Included,
    /// Facebook.
    Facebook "FacebookOauth2" Included,
    /// Yandex.
    Yandex "YandexOauth2" Included,
    /// Reddit.
    Reddit "RedditOauth2" Included,
    /// Zoom.
    Zoom "ZoomOauth2" Included,
    /// Twitch.
    Twitch "TwitchOauth2" Included,
    /// Spotify.
    Spotify "SpotifyOauth2" Included,
    /// Dropbox.
    Dropbox "DropboxOauth2" Included,
    /// Notion.
    Notion "NotionOauth2" Included,
    /// HubSpot.
    Hubspot "HubspotOauth2" Included,
    /// CyberArk.
    CyberArk "CyberArkOauth2" Included,
    /// FusionAuth.
    FusionAuth "FusionAuthOauth2" Included,
    /// Auth0.
    Auth0 "Auth0Oauth2" Included,
    /// Amazon Cognito.
    Cognito "CognitoOauth2" Included,
}

impl Vendor {
    /// The vendor with this text on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|vendor| vendor.as_str() == text)
    }
}

/// Members of the union `Oauth2ProviderConfigInput`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigMember {
    /// `customOauth2ProviderConfig`
    Custom,
    /// `googleOauth2ProviderConfig`
    Google,
    /// `githubOauth2ProviderConfig`
    Github,
    /// `slackOauth2ProviderConfig`
    Slack,
    /// `salesforceOauth2ProviderConfig`
    Salesforce,
    /// `microsoftOauth2ProviderConfig`
    Microsoft,
    /// `atlassianOauth2ProviderConfig`
    Atlassian,
    /// `linkedinOauth2ProviderConfig`
    Linkedin,
    /// `includedOauth2ProviderConfig`
    Included,
}

impl ConfigMember {
    /// All of them, in the model's order.
    pub const ALL: [Self; 9] = [
        Self::Custom,
        Self::Google,
        Self::Github,
        Self::Slack,
        Self::Salesforce,
        Self::Microsoft,
        Self::Atlassian,
        Self::Linkedin,
        Self::Included,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "customOauth2ProviderConfig",
            Self::Google => "googleOauth2ProviderConfig",
            Self::Github => "githubOauth2ProviderConfig",
            Self::Slack => "slackOauth2ProviderConfig",
            Self::Salesforce => "salesforceOauth2ProviderConfig",
            Self::Microsoft => "microsoftOauth2ProviderConfig",
            Self::Atlassian => "atlassianOauth2ProviderConfig",
            Self::Linkedin => "linkedinOauth2ProviderConfig",
            Self::Included => "includedOauth2ProviderConfig",
        }
    }
}

/// A reference to a secret that its owner keeps elsewhere (`SecretReference`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name or ARN.
    pub secret_id: String,
    /// The key under which the value stands in the secret's JSON.
    pub json_key: String,
}

impl SecretReference {
    /// What is referred to in the secret's value: the text under the key of a JSON object, or the value itself when the key is
    /// empty or the value is plain text (D25: the wire has no empty key). `None` when there is no such text.
    pub fn select(&self, value: Secret) -> Option<Secret> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Member {
            Text(Secret),
            Other(serde::de::IgnoredAny),
        }
        if self.json_key.is_empty() || !value.expose().trim_start().starts_with(['{', '[']) {
            return Some(value);
        }
        let mut members: std::collections::HashMap<String, Member> =
            serde_json::from_str(value.expose()).ok()?;
        match members.remove(&self.json_key)? {
            Member::Text(text) => Some(text),
            Member::Other(_) => None,
        }
    }
}

/// Where the secret of a provider is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// Kept by us.
    Managed(StoredSecret),
    /// Kept by its owner.
    External(SecretReference),
}

/// How the client proves itself at the token endpoint (`ClientAuthenticationMethodType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthentication {
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    #[serde(rename = "CLIENT_SECRET_BASIC")]
    Basic,
    /// `client_secret_post` (RFC 6749 §2.3.1).
    #[serde(rename = "CLIENT_SECRET_POST")]
    Post,
    /// `private_key_jwt` (RFC 7523 §2.2).
    #[serde(rename = "PRIVATE_KEY_JWT")]
    PrivateKeyJwt,
}

/// Where the authorization server's endpoints come from (`Oauth2Discovery`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discovery {
    /// Read from this document when first needed.
    #[serde(rename = "discoveryUrl")]
    Url(String),
    /// Given.
    #[serde(rename = "authorizationServerMetadata")]
    Metadata(ServerMetadata),
}

/// The endpoints of an authorization server as a provider's configuration gives them (`Oauth2AuthorizationServerMetadata`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerMetadata {
    /// `issuer` (RFC 8414 §2).
    pub issuer: String,
    /// `authorization_endpoint`.
    pub authorization_endpoint: String,
    /// `token_endpoint`.
    pub token_endpoint: String,
    /// `response_types_supported`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_types: Vec<String>,
    /// `token_endpoint_auth_methods_supported`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_endpoint_auth_methods: Vec<String>,
}

/// How `private_key_jwt` assertions are made (`PrivateKeyJwtConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateKeyJwt {
    /// The key, by ARN.
    pub key_arn: String,
    /// The algorithm.
    pub algorithm: SigningAlgorithm,
    /// Further header parameters; never `alg` or `typ`.
    #[serde(default)]
    pub header_claims: std::collections::BTreeMap<String, String>,
    /// Further claims; never `iss`, `sub`, `jti`, `exp`, `iat`, `nbf`. `aud` overrides the token endpoint.
    #[serde(default)]
    pub payload_claims: std::collections::BTreeMap<String, String>,
}

/// What distinguishes one OAuth2 client from another. A change in it starts a new generation of the provider (D3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientRegistration {
    /// Whose catalogue entry applies.
    pub vendor: Vendor,
    /// Where the endpoints come from; `None` where the catalogue alone knows them.
    pub discovery: Option<Discovery>,
    /// Entra's tenant.
    pub tenant_id: Option<String>,
    /// The client id.
    pub client_id: String,
}

/// A named OAuth2 client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Oauth2Provider {
    /// Its id, new at each create (D9); also names its callback path.
    pub id: Id<Oauth2Provider>,
    /// Its name, unique among OAuth2 providers.
    pub name: ProviderName,
    /// Vendor, endpoints and client id.
    pub registration: ClientRegistration,
    /// Moves when `registration` changes: tokens of an older generation are never sent anywhere (D3).
    pub generation: u32,
    /// Where the client secret is.
    pub client_secret: SecretSource,
    /// How the client proves itself; `None` leaves it to metadata and catalogue.
    pub client_authentication: Option<ClientAuthentication>,
    /// For [`ClientAuthentication::PrivateKeyJwt`].
    pub private_key_jwt: Option<PrivateKeyJwt>,
    /// Members that are stored and answered as given, for clients that read them back: on-behalf-of, private endpoints.
    #[serde(default)]
    pub echoed: serde_json::Map<String, Value>,
    /// Its tags.
    pub tags: Tags,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A named API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyProvider {
    /// Its id, new at each create (D9).
    pub id: Id<ApiKeyProvider>,
    /// Its name, unique among API-key providers.
    pub name: ProviderName,
    /// Where the key is.
    pub secret: SecretSource,
    /// Its tags.
    pub tags: Tags,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_of_the_model_parses_to_itself() {
        assert_eq!(Vendor::ALL.len(), 25);
        for vendor in Vendor::ALL {
            assert_eq!(Vendor::parse(vendor.as_str()), Some(*vendor));
        }
        assert_eq!(Vendor::parse("googleoauth2"), None);
    }
}
