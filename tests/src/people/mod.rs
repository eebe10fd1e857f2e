//! Stand-ins for what `slipway notify` tells people through: Telegram's Bot API, Slack's incoming webhooks, and a receiver of
//! signed webhooks. Each is as strict as the original, by its own documentation, and answers with its own codes and bodies.
//!
//! They share no code with Slipway: what it writes is read here by other means.

mod fault;
mod http;
mod markdown;
mod receiver;
mod slack;
mod telegram;

pub use fault::ChatFault;
pub use receiver::{ReceivedWebhook, WebhookReceiver};
pub use slack::SlackStandIn;
pub use telegram::{TelegramStandIn, ToldMessage};
