//! Where brokers are: one URL or a list of them, since a cluster's nodes have an address each. What is shown of them
//! holds neither user nor password.

use std::fmt;

use lapin::uri::AMQPUri;
use reqwest::Url;

/// A broker's address with its login. No `Debug`: it holds a password.
#[derive(Clone)]
pub struct BrokerAddress {
    /// As the client library takes it.
    pub(super) uri: AMQPUri,
    url: Url,
}

/// Text that isn't a list of `amqp://` or `amqps://` URLs; which one isn't, from 1. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAddress(pub usize);

impl BrokerAddress {
    /// The addresses in `list`, which commas or white space separate; at least one.
    ///
    /// # Errors
    /// [`NotAnAddress`] for the first one that can't be used.
    pub fn list(list: &str) -> Result<Vec<Self>, NotAnAddress> {
        let urls = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|url| !url.is_empty());
        let addresses: Result<Vec<_>, _> =
            urls.enumerate().map(|(i, url)| Self::parse(url).ok_or(NotAnAddress(i + 1))).collect();
        addresses.and_then(|addresses| if addresses.is_empty() { Err(NotAnAddress(1)) } else { Ok(addresses) })
    }

    /// The client library's own parser decides, so that nothing passes here that fails later.
    fn parse(text: &str) -> Option<Self> {
        let mut uri: AMQPUri = text.parse().ok()?;
        let url = Url::parse(text).ok()?;
        // It takes an IPv6 address for no host at all, and that for localhost.
        let host = url.host_str().filter(|host| !host.is_empty())?;
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            uri.authority.host = address.to_owned();
        }
        Some(Self { uri, url })
    }

    /// With the user, and with stars for the password, for those who look for a mistake in their settings.
    #[must_use]
    pub fn with_user(&self) -> String {
        let mut url = self.url.clone();
        if url.password().is_some() {
            // Fails only for URLs that can't have a password.
            let _ = url.set_password(Some("***"));
        }
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }
}

/// Scheme, host and virtual host.
impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.url.scheme(), self.url.host_str().unwrap_or_default(), self.url.path())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_separated_by_commas_or_white_space_and_shown_without_logins() {
        let list = BrokerAddress::list("amqp://u:p@a:1/v, amqps://u:p@b/%2f\namqp://u:p@[::1]:3?heartbeat=7").unwrap();
        let shown: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["amqp://a:1/v", "amqps://b/%2f", "amqp://[::1]:3"]);
        assert_eq!(list[0].with_user(), "amqp://u:***@a:1/v");
        assert_eq!((list[1].uri.authority.port, list[2].uri.authority.host.as_str()), (5671, "::1"));
    }

    #[test]
    fn the_one_that_is_no_address_is_named_by_its_place() {
        let refused = |list| BrokerAddress::list(list).err();
        assert_eq!(refused("amqp://u:p@a,http://u:p@b"), Some(NotAnAddress(2)));
        assert_eq!(refused("amqp://u:p@"), Some(NotAnAddress(1)));
        assert_eq!(refused(" ,"), Some(NotAnAddress(1)));
    }
}
