//! The policies of `slipway notify`.

use slipway_deploy::backoff::RetryPolicy as Retry;

use super::setting::{PolicySetting, fixed};
use crate::store;

#[rustfmt::skip]
pub(super) fn notifications() -> Vec<PolicySetting> {
    vec![
        fixed("telling people what a channel refused, or couldn't be told", "backoff::NOTIFICATIONS", Retry::NOTIFICATIONS,
            "A chat that refuses one message is tried for half a day beside the others; a channel that doesn't work is \
             left alone for so long, and what waits for it is told once it does"),
        fixed("lease of a channel", "store::notification::claim::NOTIFICATION_LEASE", store::NOTIFICATION_LEASE,
            "One process sends to a channel at a time; so long after it fell silent another one does"),
        fixed("sending one notification", "store::notification::claim::NOTIFICATION_TIMEOUT", store::NOTIFICATION_TIMEOUT,
            "Shorter than the lease of a channel; whether one that took longer has arrived isn't known"),
        fixed("notifications that are recognised when they come again", "store::notification::overview::NOTIFICATION_RETENTION",
            store::NOTIFICATION_RETENTION,
            "Longer than the oldest event that is still told"),
    ]
}
