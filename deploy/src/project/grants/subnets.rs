//! Subnets, as far as a judgement needs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the length of its network's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    address: IpAddr,
    length: u8,
}

impl Subnet {
    /// Reads `10.0.0.0/24`; an address by itself is a subnet of one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(most), |length| length.parse().ok())?;
        (length <= most).then_some(Self { address, length })
    }

    /// Whether it's one that only private networks use, and not a large part of them.
    pub(super) fn is_private(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::is_private(&address) && self.length >= 16,
            IpAddr::V6(address) => Ipv6Addr::is_unique_local(&address) && self.length >= 48,
        }
    }

    /// Whether all of the other's addresses are in this one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.overlaps(other)
    }

    /// Whether an address is in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let common = u32::from(self.length.min(other.length));
        match (self.address, other.address) {
            (IpAddr::V4(one), IpAddr::V4(two)) => (one.to_bits() ^ two.to_bits()).leading_zeros() >= common,
            (IpAddr::V6(one), IpAddr::V6(two)) => (one.to_bits() ^ two.to_bits()).leading_zeros() >= common,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Subnet;

    #[test]
    fn subnets_overlap_where_they_share_an_address() {
        let overlap = |one, two| Subnet::parse(one).zip(Subnet::parse(two)).map(|(one, two)| one.overlaps(&two));
        for (one, two, expected) in [
            ("10.0.0.0/24", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.0/16", true),
            ("10.0.1.0/24", "10.0.0.0/24", false),
            ("10.0.0.0/24", "0.0.0.0/0", true),
            ("fd00:1::/64", "fd00:1::1", true),
            ("fd00:1::/64", "fd00:2::/64", false),
            ("fd00:1::/64", "10.0.0.0/24", false),
        ] {
            assert_eq!(overlap(one, two), Some(expected), "{one} {two}");
        }
        for text in ["", "default", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/x", "fd00::/129"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn private_subnets_of_a_bounded_size_can_be_chosen() {
        let private = |text| Subnet::parse(text).is_some_and(|subnet| subnet.is_private());
        assert!(["10.9.0.0/16", "172.28.0.0/24", "192.168.7.0/28", "fd12:3456:789a::/48"].into_iter().all(private));
        assert!(!["10.0.0.0/8", "140.82.112.0/20", "172.32.0.0/24", "2a00::/64", "fd00::/8"].into_iter().any(private));
    }
}
