//! What the operator lists: targets that are not public and may be reached all the same (D21).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

use crate::address::{canonical, never};

#[cfg(test)]
mod tests;

/// One entry, `HOST:PORT` or `CIDR[:PORT]`. A host is compared with the URL's host, an address or network with the
/// addresses that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Name { host: String, port: u16 },
    Net { net: IpNet, port: Option<u16> },
}

/// Why a text is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowRuleError {
    /// It has another form.
    #[error(
        "`{0}` is neither HOST:PORT nor CIDR[:PORT], such as `127.0.0.1:8080`, `idp.internal:443` or `10.1.0.0/16`"
    )]
    Form(String),
    /// It may never be reached, whoever wants it.
    #[error(
        "`{entry}` is or holds {what}, which can never be listed: it gives out credentials of the machine"
    )]
    Never {
        /// The text.
        entry: String,
        /// What it is.
        what: &'static str,
    },
}

/// The entries of a deployment. An empty list allows the public internet over https and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<AllowRule>);

impl AllowList {
    /// From its entries.
    pub const fn new(rules: Vec<AllowRule>) -> Self {
        Self(rules)
    }

    /// From entries separated by commas or white space, the form of `AGENT_IDENTITY_EGRESS_ALLOW`.
    ///
    /// # Errors
    /// That of the first entry that is none.
    pub fn parse(text: &str) -> Result<Self, AllowRuleError> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        entries.map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an entry lists this address, reached under this host and port.
    pub(crate) fn lists(&self, host: &Host<String>, port: u16, address: IpAddr) -> bool {
        let address = canonical(address);
        self.0.iter().any(|AllowRule(rule)| match rule {
            Rule::Name { host: listed, port: on } => {
                *on == port && matches!(host, Host::Domain(name) if bare(name) == listed)
            }
            Rule::Net { net, port: on } => on.is_none_or(|on| on == port) && net.contains(&address),
        })
    }
}

/// A name without the dot that may end it.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl FromIterator<AllowList> for AllowList {
    /// All of their entries.
    fn from_iter<T: IntoIterator<Item = Self>>(lists: T) -> Self {
        Self(lists.into_iter().flat_map(|list| list.0).collect())
    }
}

impl FromStr for AllowRule {
    type Err = AllowRuleError;

    fn from_str(text: &str) -> Result<Self, AllowRuleError> {
        let form = || AllowRuleError::Form(text.to_owned());
        let refused = |what| AllowRuleError::Never { entry: text.to_owned(), what };
        let rule = if text.contains('/') { network(text) } else { host(text) }.ok_or_else(form)?;
        match &rule {
            Rule::Name { host, .. } if host == "metadata.google.internal" => {
                Err(refused("a metadata server"))
            }
            Rule::Net { net, .. } => never(*net).map_or(Ok(Self(rule)), |what| Err(refused(what))),
            Rule::Name { .. } => Ok(Self(rule)),
        }
    }
}

/// `10.0.0.0/8`, `10.0.0.0/8:443`, `fd00::/8`, `fd00::/8:443`, `[fd00::/8]:443`.
fn network(text: &str) -> Option<Rule> {
    let (net, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (net, rest) = rest.split_once(']')?;
            (net, Some(rest.strip_prefix(':')?))
        }
        None => {
            let (address, rest) = text.split_once('/')?;
            match rest.split_once(':') {
                Some((length, port)) => (text.get(..address.len() + 1 + length.len())?, Some(port)),
                None => (text, None),
            }
        }
    };
    let net = net.parse::<IpNet>().ok()?.trunc();
    if matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some() && net.prefix_len() >= 96) {
        // It would never match: such addresses are compared as IPv4.
        return None;
    }
    let port = match port {
        Some(port) => Some(self::port(port)?),
        None => None,
    };
    Some(Rule::Net { net, port })
}

/// `127.0.0.1:8080`, `[::1]:8080`, `idp.internal:443`; the host as URLs write it, so that both compare.
fn host(text: &str) -> Option<Rule> {
    let (host, port) = text.rsplit_once(':')?;
    let port = self::port(port)?;
    if host.contains('*') {
        return None;
    }
    Some(match Host::parse(host).ok()? {
        Host::Domain(name) => match bare(&name) {
            "" => return None,
            name => Rule::Name { host: name.to_owned(), port },
        },
        Host::Ipv4(address) => Rule::Net { net: IpAddr::from(address).into(), port: Some(port) },
        Host::Ipv6(address) => Rule::Net { net: canonical(address.into()).into(), port: Some(port) },
    })
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Name { host, port } => write!(f, "{host}:{port}"),
            Rule::Net { net: IpNet::V6(net), port: Some(port) } => write!(f, "[{net}]:{port}"),
            Rule::Net { net: IpNet::V4(net), port: Some(port) } => write!(f, "{net}:{port}"),
            Rule::Net { net, port: None } => write!(f, "{net}"),
        }
    }
}
