//! Which addresses are public. The tables are the IANA special-purpose address registries (RFC 6890 and its successors),
//! read strictly: what is not plainly a public unicast address is not one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

#[cfg(test)]
mod tests;

/// How far an address may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By everybody.
    Global,
    /// Only if the operator listed it. What it is.
    Listed(&'static str),
    /// By nobody: it gives out credentials of the machine. What it is.
    Never(&'static str),
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// Where clouds keep the credentials of their machines. Link-local as a whole; the others by address.
const NEVER: [(IpNet, &str); 8] = [
    (IpNet::V4(v4(169, 254, 0, 0, 16)), "a link-local address"),
    (IpNet::V6(v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)), "a link-local address"),
    // AWS over IPv6: instance metadata, pod identities.
    (IpNet::V6(v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32)), "a metadata address"),
    // Google over IPv6.
    (IpNet::V6(v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128)), "a metadata address"),
    // Azure's wire server: a public address that leads to the host.
    (IpNet::V4(v4(168, 63, 129, 16, 32)), "a metadata address"),
    (IpNet::V4(v4(100, 100, 100, 200, 32)), "a metadata address"), // Alibaba
    (IpNet::V4(v4(192, 0, 0, 192, 32)), "a metadata address"),     // Oracle
    (IpNet::V6(v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0], 112)), "a link-local address"),
];

const SPECIAL_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "an address of this host"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a shared address (carrier-grade NAT)"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address of IETF protocols"),
    (v4(192, 0, 2, 0, 24), "a documentation address"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay address"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "a benchmarking address"),
    (v4(198, 51, 100, 0, 24), "a documentation address"),
    (v4(203, 0, 113, 0, 24), "a documentation address"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
];

const SPECIAL_V6: [(Ipv6Net, &str); 11] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "an IPv4-compatible or unspecified address"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "a local translation address"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "a discard address"),
    // Teredo, benchmarking, ORCHID and the rest of the IETF's block.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "an address of IETF protocols"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "a documentation address"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 address"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "a documentation address"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a unique local address"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
];

/// Public unicast addresses are given out of this block alone (RFC 3587 §2).
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// IPv6-only networks reach public IPv4 through it (RFC 6052 §2.1).
const TRANSLATION: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

/// The address that a connection really goes to: an IPv4-mapped IPv6 address is the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// How far this address may be reached.
pub fn reach(address: IpAddr) -> Reach {
    let address = canonical(address);
    if let Some((_, what)) = NEVER.iter().find(|(net, _)| net.contains(&address)) {
        return Reach::Never(what);
    }
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// Why nobody may list this network: it is, lies in, or holds a link-local network, or names a metadata address.
pub fn never(listed: IpNet) -> Option<&'static str> {
    let forbidden = |net: &IpNet| net.contains(&listed) || (is_block(net) && listed.contains(net));
    NEVER.iter().find(|(net, _)| forbidden(net)).map(|(_, what)| *what)
}

/// A block of addresses and not one. Who lists a network that holds one metadata address (100.64.0.0/10 holds Alibaba's) gets
/// the network without that address; who lists one that holds all link-local addresses is told so.
fn is_block(net: &IpNet) -> bool {
    net.prefix_len() != net.max_prefix_len()
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match SPECIAL_V4.iter().find(|(net, _)| net.contains(&address)) {
        Some((_, what)) => Reach::Listed(what),
        None => Reach::Global,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let embedded = embedded(address);
    if TRANSLATION.contains(&address) {
        return embedded.map_or(Reach::Listed("a translation address"), |inner| reach(inner.into()));
    }
    if let Some(what @ Reach::Never(_)) = embedded.map(|inner| reach(inner.into())) {
        return what;
    }
    match SPECIAL_V6.iter().find(|(net, _)| net.contains(&address)) {
        Some((_, what)) => Reach::Listed(what),
        None if GLOBAL_UNICAST_V6.contains(&address) => Reach::Global,
        None => Reach::Listed("an unassigned address"),
    }
}

/// The IPv4 address that a tunnel or a translator would send to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, a, b, c, d, .., w, x, y, z] = address.octets();
    let compatible = SPECIAL_V6.iter().any(|(net, _)| net.prefix_len() == 96 && net.contains(&address));
    if TRANSLATION.contains(&address) || compatible {
        Some(Ipv4Addr::new(w, x, y, z))
    } else if SIX_TO_FOUR.contains(&address) {
        Some(Ipv4Addr::new(a, b, c, d))
    } else if TEREDO.contains(&address) {
        Some(Ipv4Addr::new(!w, !x, !y, !z))
    } else {
        None
    }
}
