//! Domains under which a project is served over HTTPS. Whom one belongs to, and where it leads, isn't decided here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::names::{InvalidName, dns_name, name};

name!(
    /// A domain that a certificate can be had for: a DNS name in lower case with a dot in it. It's neither a wildcard nor
    /// an IP address, and no dot ends it.
    DomainName, "domain", "be a DNS name in lower case with a dot, no wildcard and no IP address, such as shop.example.org",
    r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", 253,
    |v| v.contains('.') && !v.bytes().any(|b| b.is_ascii_uppercase()) && dns_name(v)
        && v.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_lowercase()))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_certificate_can_be_had_for_is_a_domain() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for good in ["shop.example.org", "a.b", "xn--bcher-kva.example", "1.2.3.a4", "a--b.example", &longest] {
            assert!(DomainName::new(good).is_ok(), "{good}");
        }
        let (too_long, long_label) = (format!("{longest}a"), format!("a{label}.org"));
        for bad in [
            "",
            "localhost",
            "*.example.org",
            "Shop.example.org",
            "shop.example.org.",
            ".example.org",
            "shop..org",
            "203.0.113.10",
            "2001:db8::1",
            "shop.example.1",
            "shop.example.1a",
            "-shop.org",
            "shop-.org",
            "shop_1.org",
            "shop.org:443",
            "shop.org/x",
            "shop .org",
            "höf.org",
            "shop.org\n",
            &too_long,
            &long_label,
        ] {
            assert!(DomainName::new(bad).is_err(), "{bad:?}");
        }
    }
}
