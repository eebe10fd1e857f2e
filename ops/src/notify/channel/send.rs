//! Sends a message through whatever its channel is, within one time-out.

use std::path::Path;

use reqwest::Client;
use slipway_worker::store::NOTIFICATION_TIMEOUT;

use super::delivery::{MessageDelivery, SendFailure};
use super::{email, slack, telegram, webhook};
use crate::notify::routing::settings::ChannelAddress;

/// What all channels send with.
pub(crate) struct ChannelClient {
    http: Client,
    /// A certificate authority of the operators' own, as PEM.
    authority: Option<Vec<u8>>,
}

impl ChannelClient {
    /// Trusts the system's authorities and those in `ca_file`. It follows no redirections: they lead elsewhere than the
    /// routing file says.
    ///
    /// # Errors
    /// A sentence about the file.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let builder = slipway_deploy::http::builder(ca_file)?;
        let http = builder.redirect(reqwest::redirect::Policy::none()).timeout(NOTIFICATION_TIMEOUT).build();
        let read = |path: &Path| std::fs::read(path).map_err(|e| format!("the CA file {}: {e}", path.display()));
        let authority = ca_file.map(read).transpose()?;
        Ok(Self { http: http.map_err(|e| format!("no HTTP client: {e}"))?, authority })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Why it isn't known to have arrived.
    pub(crate) async fn send(
        &self,
        address: &ChannelAddress,
        delivery: &MessageDelivery<'_>,
    ) -> Result<(), SendFailure> {
        let send = async {
            match address {
                ChannelAddress::Telegram(address) => telegram::send(&self.http, address, delivery).await,
                ChannelAddress::Slack(address) => slack::send(&self.http, address, delivery).await,
                ChannelAddress::Webhook(address) => webhook::send(&self.http, address, delivery).await,
                ChannelAddress::Email(address) => email::send(address, self.authority.as_deref(), delivery).await,
            }
        };
        let late = |_| SendFailure::Channel { problem: "no answer in time".to_owned(), maybe_told: true };
        tokio::time::timeout(NOTIFICATION_TIMEOUT, send).await.map_err(late)?
    }
}
