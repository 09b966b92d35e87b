//! Where a tool's requests go, and where a provider's credentials may (D3).

use serde::{Deserialize, Serialize};

use crate::name::parsed_text;

/// Scheme, host and port, written out: none of it comes from an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    tls: bool,
    /// In lower case.
    host: String,
    port: u16,
}

impl Origin {
    /// `https://HOST[:PORT]`; plain http is for hosts of this machine.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, authority) = match text.split_once("://") {
            Some(("https", authority)) => (true, authority),
            Some(("http", authority)) => (false, authority),
            _ => return Err("must begin with https://".to_owned()),
        };
        let (host, port) = host_and_port(authority)?;
        if !tls && !["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str()) {
            return Err("must begin with https://: http is for loopback addresses only".to_owned());
        }
        Ok(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// `HOST:PORT`, as an answer names it.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => write!(f, "{scheme}://{}", self.host),
            _ => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

/// A host in lower case, and the port if one is given. Names and addresses as they stand in URLs, and nothing that a parser could
/// read otherwise: no user, no odd spelling of an address.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => None,
        Some(port) if port.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port > 0).ok_or("has no port from 1 to 65535")?)
        }
        Some(_) => return Err("has no port from 1 to 65535".to_owned()),
    };
    let host = host.to_ascii_lowercase();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let labels = || host.split('.');
            let plain = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            // A last label that begins with a digit is an address in one of its spellings (WHATWG URL, "ends in a number").
            let numeric =
                labels().next_back().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
            host.len() <= 253
                && labels().all(plain)
                && (!numeric || host.parse::<std::net::Ipv4Addr>().is_ok_and(|it| it.to_string() == host))
        }
    };
    if is_host { Ok((host, port)) } else { Err("has no plain host name".to_owned()) }
}

/// The hosts that a provider's credentials may be sent to: the value of its tag `agent-identity:injectable-hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectableHosts(String);

impl InjectableHosts {
    /// `HOST[:PORT]`, separated by spaces; `.example.com` stands for all names below `example.com`.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        for entry in text.split_whitespace() {
            let name = entry.strip_prefix('.').unwrap_or(entry);
            host_and_port(name).map_err(|wrong| format!("`{entry}` {wrong}"))?;
            if name != entry && !name.contains('.') {
                return Err(format!("`{entry}` stands for too much: name a domain of at least two labels"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether they name this one. Without a port they mean that of https.
    pub fn admit(&self, origin: &Origin) -> bool {
        self.0.split_whitespace().any(|entry| {
            let name = entry.strip_prefix('.').unwrap_or(entry);
            let Ok((host, port)) = host_and_port(name) else { return false };
            let is_host = if name == entry {
                origin.host == host
            } else {
                origin.host.strip_suffix(&host).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            };
            is_host && origin.port == port.unwrap_or(443)
        })
    }
}

parsed_text!(InjectableHosts);
