//! Telegram's bots: `sendMessage` with MarkdownV2. Telegram recognises no message that comes again.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{ask, bounded};
use super::delivery::{MessageDelivery, SendFailure};
use super::escape::markdown_v2;
use crate::notify::routing::settings::TelegramAddress;
use crate::notify::text::message_text::{MessageText, utf16_length};

/// What a message may have, in UTF-16 and without its markup.
const LIMIT: usize = 4096;
/// How often one message is written anew, since Telegram doesn't take it as it was.
const REWRITES: u8 = 3;

/// What Telegram answers.
#[derive(Debug, Default, Deserialize)]
struct BotAnswer {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: BotParameters,
}

#[derive(Debug, Default, Deserialize)]
struct BotParameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// How a message is written; each refusal of a form leads to a plainer one.
struct MessageForm {
    chat: String,
    limit: usize,
    markdown: bool,
}

/// Sends a message.
///
/// # Errors
/// Why it isn't known to have arrived.
pub(super) async fn send(
    client: &Client,
    address: &TelegramAddress,
    delivery: &MessageDelivery<'_>,
) -> Result<(), SendFailure> {
    // Joined, `bot123:` would be taken for a scheme.
    let mut url = address.api.clone();
    let bot = format!("bot{}", address.token.expose_secret());
    match url.path_segments_mut() {
        Ok(mut path) => drop(path.pop_if_empty().extend([bot.as_str(), "sendMessage"])),
        Err(()) => return Err(SendFailure::channel("the API's URL can't be used")),
    }
    let mut form = MessageForm { chat: delivery.target.to_owned(), limit: LIMIT, markdown: true };
    let mut refused = SendFailure::message("Telegram refused the message in every form");
    for _ in 0..=REWRITES {
        let answer = ask(client.post(url.clone()).json(&body(&form, &delivery.text))).await?;
        let status = answer.status;
        let read = serde_json::from_str(&answer.body);
        let said: BotAnswer =
            read.unwrap_or_else(|_| BotAnswer { description: answer.summary(), ..BotAnswer::default() });
        if status.is_success() && said.ok {
            return Ok(());
        }
        let why = said.description.clone();
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = said.parameters.retry_after.map_or(answer.wait(), |wait| bounded(Duration::from_secs(wait)));
                return Err(SendFailure::Limited(wait));
            }
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => {
                return Err(SendFailure::channel(format!(
                    "Telegram doesn't know the bot's token ({why}): put the one of @BotFather into the file"
                )));
            }
            StatusCode::FORBIDDEN => {
                return Err(SendFailure::message(format!(
                    "the bot may not write to chat {} ({why}): add it there, or start it, anew",
                    form.chat
                )));
            }
            StatusCode::BAD_REQUEST => refused = SendFailure::message(format!("chat {}: {why}", form.chat)),
            _ => {
                return Err(SendFailure::Channel {
                    problem: format!("Telegram answered {status}: {why}"),
                    maybe_told: true,
                });
            }
        }
        if !rewrite(&mut form, &said) {
            break;
        }
    }
    Err(refused)
}

/// Whether the message can be written anew so that what Telegram said doesn't hold any more.
fn rewrite(form: &mut MessageForm, said: &BotAnswer) -> bool {
    if let Some(chat) = said.parameters.migrate_to_chat_id {
        form.chat = chat.to_string();
        return true;
    }
    if said.description.contains("can't parse entities") && form.markdown {
        form.markdown = false;
        return true;
    }
    if said.description.contains("message is too long") && form.limit > LIMIT / 8 {
        form.limit /= 2;
        return true;
    }
    false
}

fn body(form: &MessageForm, text: &MessageText) -> Value {
    let text = text.clone().shortened(form.limit, utf16_length);
    let (chat, topic) = form.chat.split_once('/').unwrap_or((&form.chat, ""));
    let chat = chat.parse::<i64>().map_or_else(|_| json!(chat), |number| json!(number));
    let mut body = json!({ "chat_id": chat, "link_preview_options": { "is_disabled": true } });
    if let Ok(topic) = topic.parse::<i64>() {
        body["message_thread_id"] = json!(topic);
    }
    if form.markdown {
        let lines = text.lines.iter().map(|line| format!("\n{}", markdown_v2(line)));
        body["text"] = format!("*{}*{}", markdown_v2(&text.title), lines.collect::<String>()).into();
        body["parse_mode"] = "MarkdownV2".into();
    } else {
        body["text"] = text.plain().into();
    }
    body
}
