use proptest::prelude::*;

use super::*;

/// Written from RFC 6890, 8190 and the registries, independently of the tables above: (network, may it ever be listed).
const FORBIDDEN: [(&str, bool); 39] = [
    ("0.0.0.0/8", true),
    ("10.0.0.0/8", true),
    ("100.64.0.0/10", true),
    ("127.0.0.0/8", true),
    ("169.254.0.0/16", false),
    ("172.16.0.0/12", true),
    ("192.0.0.0/24", true),
    ("192.0.2.0/24", true),
    ("192.88.99.0/24", true),
    ("192.168.0.0/16", true),
    ("198.18.0.0/15", true),
    ("198.51.100.0/24", true),
    ("203.0.113.0/24", true),
    ("224.0.0.0/4", true),
    ("240.0.0.0/4", true),
    ("168.63.129.16/32", false),
    ("100.100.100.200/32", false),
    ("192.0.0.192/32", false),
    ("::/96", true),
    ("64:ff9b:1::/48", true),
    ("100::/64", true),
    ("2001::/32", true),
    ("2001:2::/48", true),
    ("2001:10::/28", true),
    ("2001:20::/28", true),
    ("2001:db8::/32", true),
    ("2002::/16", true),
    ("3fff::/20", true),
    ("5f00::/16", true),
    ("fc00::/7", true),
    ("fe80::/10", false),
    ("fec0::/10", true),
    ("ff00::/8", true),
    ("fd00:ec2::254/128", false),
    ("fd00:ec2::23/128", false),
    ("fd20:ce::254/128", false),
    ("4000::/3", true),
    ("8000::/1", true),
    ("::ffff:127.0.0.0/104", true),
];

/// An address of `net`, chosen by `bits`.
fn within(net: IpNet, bits: u128) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let host = u32::from(net.hostmask()) & u32::try_from(bits & 0xffff_ffff).unwrap();
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.network()) | (u128::from(net.hostmask()) & bits)).into()
        }
    }
}

fn forms(address: Ipv4Addr) -> [Ipv6Addr; 5] {
    let [a, b, c, d] = address.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    [
        address.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 63, !high, !low),
    ]
}

proptest! {
    #[test]
    fn no_address_of_a_special_range_is_global(which in 0..FORBIDDEN.len(), bits: u128) {
        let (net, listable) = FORBIDDEN[which];
        let address = within(net.parse().unwrap(), bits);
        let reach = reach(address);
        prop_assert_ne!(reach, Reach::Global, "{}", address);
        if !listable {
            prop_assert!(matches!(reach, Reach::Never(_)), "{}", address);
        }
    }

    #[test]
    fn no_form_that_embeds_a_special_ipv4_address_is_global(which in 0..18_usize, bits: u128) {
        let (net, listable) = FORBIDDEN[which];
        let IpAddr::V4(address) = within(net.parse().unwrap(), bits) else { panic!("not IPv4") };
        for form in forms(address) {
            let reach = reach(form.into());
            prop_assert_ne!(reach, Reach::Global, "{}", form);
            if !listable {
                prop_assert!(matches!(reach, Reach::Never(_)), "{}", form);
            }
        }
    }

    #[test]
    fn an_ipv4_address_outside_the_special_ranges_is_global(bits: u32) {
        let address = IpAddr::V4(bits.into());
        let special = FORBIDDEN.iter().any(|(net, _)| net.parse::<IpNet>().unwrap().contains(&address));
        prop_assert_eq!(reach(address) == Reach::Global, !special, "{}", address);
        prop_assert_eq!(reach(Ipv4Addr::from(bits).to_ipv6_mapped().into()), reach(address));
    }

    #[test]
    fn an_ipv6_address_is_global_only_in_the_public_block(bits: u128) {
        let address = IpAddr::V6(bits.into());
        let special = FORBIDDEN.iter().any(|(net, _)| net.parse::<IpNet>().unwrap().contains(&address));
        prop_assert!(reach(address) != Reach::Global || (bits >> 125 == 1 && !special), "{}", address);
    }
}

#[test]
fn well_known_public_addresses_are_global() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "140.82.112.3",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:82a::200e",
        "2001:4860:4860::8888",
        "2600::",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(reach(address.parse().unwrap()), Reach::Global, "{address}");
    }
}

#[test]
fn metadata_addresses_are_never_reached_in_any_form() {
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::1",
        "febf::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a83f:8110",
    ] {
        assert!(matches!(reach(address.parse().unwrap()), Reach::Never(_)), "{address}");
    }
}
