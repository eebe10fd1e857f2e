//! Which ports a project gets on its server.

use std::collections::{BTreeMap, BTreeSet};

use slipway_protocol::names::{Port, ServiceName};

/// The ports that are chosen from, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Two numbers that aren't a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be two ports with a hyphen between, such as 20000-29999")]
pub struct InvalidPortRange;

impl PortRange {
    /// Below the ports that Linux gives to outgoing connections (32768 and up), and above those of well-known programs.
    pub const DEFAULT: Self = Self { first: 20_000, last: 29_999 };

    /// A range; `last` may be `first`.
    ///
    /// # Errors
    /// [`InvalidPortRange`] when it would be empty.
    pub fn new(first: Port, last: Port) -> Result<Self, InvalidPortRange> {
        if first <= last { Ok(Self { first: first.get(), last: last.get() }) } else { Err(InvalidPortRange) }
    }

    /// Every port of it.
    pub fn iter(self) -> impl Iterator<Item = Port> {
        (self.first..=self.last).filter_map(|port| Port::new(port).ok())
    }
}

impl std::str::FromStr for PortRange {
    type Err = InvalidPortRange;
    fn from_str(text: &str) -> Result<Self, InvalidPortRange> {
        let port = |text: &str| text.trim().parse().ok().and_then(|port| Port::new(port).ok()).ok_or(InvalidPortRange);
        let (first, last) = text.split_once('-').ok_or(InvalidPortRange)?;
        Self::new(port(first)?, port(last)?)
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A port for each service that has none: the one that it had before if nobody else has that now, else the lowest of the
/// range that is free. `services`: with the ports that the request gives, or that are kept. None where there aren't enough.
#[must_use]
pub fn assign_ports(
    services: &BTreeMap<ServiceName, Option<Port>>,
    before: &BTreeMap<ServiceName, Port>,
    taken: &BTreeSet<u16>,
    range: PortRange,
) -> Option<BTreeMap<ServiceName, Port>> {
    let mut used: BTreeSet<Port> = services.values().copied().flatten().collect();
    let mut assigned = BTreeMap::new();
    for (service, port) in services {
        let kept = port
            .or_else(|| before.get(service).copied().filter(|port| !taken.contains(&port.get()) && used.insert(*port)));
        if let Some(port) = kept {
            assigned.insert(service.clone(), port);
        }
    }
    let mut free = range.iter().filter(|port| !taken.contains(&port.get()) && !used.contains(port));
    for service in services.keys() {
        if !assigned.contains_key(service) {
            assigned.insert(service.clone(), free.next()?);
        }
    }
    Some(assigned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn named<T: Copy>(entries: &[(&str, T)]) -> BTreeMap<ServiceName, T> {
        entries.iter().map(|(name, value)| (name.parse().unwrap(), *value)).collect()
    }

    #[test]
    fn a_service_keeps_its_port_and_others_get_the_lowest_that_are_free() {
        let range = "20000-20004".parse().unwrap();
        let services = named(&[("backend", None), ("db", Some(port(5432))), ("frontend", None), ("tg_bot", None)]);
        let before = named(&[("frontend", port(20_001)), ("tg_bot", port(20_000))]);
        let assigned = assign_ports(&services, &before, &[20_000, 20_002].into(), range).unwrap();
        let expected = [("backend", 20_003), ("db", 5432), ("frontend", 20_001), ("tg_bot", 20_004)];
        assert_eq!(assigned, named(&expected.map(|(name, number)| (name, port(number)))));
        let fewer = [20_000, 20_002, 20_003].into();
        assert_eq!(assign_ports(&services, &before, &fewer, range), None, "one for two");
    }

    #[test]
    fn a_port_that_the_request_gives_isnt_given_twice() {
        let services = named(&[("backend", None), ("db", Some(port(20_000)))]);
        let assigned = assign_ports(&services, &BTreeMap::new(), &BTreeSet::new(), PortRange::DEFAULT).unwrap();
        assert_eq!(assigned[&"backend".parse().unwrap()], port(20_001));
        let before = named(&[("backend", port(20_000))]);
        let assigned = assign_ports(&services, &before, &BTreeSet::new(), PortRange::DEFAULT).unwrap();
        assert_eq!(assigned[&"backend".parse().unwrap()], port(20_001));
    }

    #[test]
    fn a_range_is_two_ports_in_their_order() {
        assert_eq!("20000-20001".parse::<PortRange>().unwrap().iter().count(), 2);
        assert_eq!(PortRange::DEFAULT.to_string().parse(), Ok(PortRange::DEFAULT));
        for bad in ["", "20000", "2-1", "0-5", "1-70000", "a-b"] {
            assert_eq!(bad.parse::<PortRange>(), Err(InvalidPortRange), "{bad}");
        }
    }
}
