//! The clients that a provider knows.

use agent_identity_core::Secret;

/// How a client may get tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum GrantType {
    /// RFC 6749 §4.1.
    AuthorizationCode,
    /// RFC 6749 §6. A client that has it gets a refresh token with every code.
    RefreshToken,
    /// RFC 6749 §4.4.
    ClientCredentials,
}

impl GrantType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// From the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant_type| grant_type.as_str() == name)
    }
}

/// A confidential client.
#[derive(Clone, Debug)]
pub(in super::super) struct Client {
    /// The `client_id`.
    pub id: String,
    /// What the user reads on the consent page.
    pub name: String,
    /// The `client_secret`.
    pub secret: Secret,
    /// Where a browser may be sent back to. Compared as texts (RFC 9700 §2.1).
    pub redirect_uris: Vec<String>,
    /// What it may use the token endpoint for.
    pub grant_types: Vec<GrantType>,
}

impl Client {
    /// Whether it may use `grant_type`.
    pub fn may(&self, grant_type: GrantType) -> bool {
        self.grant_types.contains(&grant_type)
    }
}
