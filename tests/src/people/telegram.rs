//! Telegram's Bot API, `sendMessage` alone, after <https://core.telegram.org/bots/api>.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::fault::{ChatFault, PlantedChatFaults};
use super::{http, markdown};

/// What a message may have, in UTF-16, after its markup was read.
const LONGEST: usize = 4096;

/// A message that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldMessage {
    /// The chat's number, or its name.
    pub chat: String,
    /// The topic within the chat.
    pub topic: Option<i64>,
    /// The text as people see it.
    pub text: String,
    /// Its bold parts; none where it came without markup.
    pub bold: Vec<String>,
}

/// The stand-in. Gone with the runtime that it was started in.
#[derive(Debug, Clone)]
pub struct TelegramStandIn {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    token: String,
    faults: PlantedChatFaults,
    chats: Mutex<BTreeSet<String>>,
    blocked: Mutex<BTreeSet<String>>,
    migrated: Mutex<BTreeMap<String, i64>>,
    told: Mutex<Vec<ToldMessage>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TelegramStandIn {
    /// Starts it for the bot with `token`, which is in `chats`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(token: &str, chats: &[&str]) -> anyhow::Result<Self> {
        let inner = Arc::new(Inner { token: token.to_owned(), ..Inner::default() });
        lock(&inner.chats).extend(chats.iter().map(|chat| (*chat).to_owned()));
        let router = Router::new().route("/{bot}/{method}", post(send)).with_state(inner.clone());
        Ok(Self { address: http::serve(router).await?, inner })
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next request meets.
    pub fn plant(&self, fault: ChatFault) {
        self.inner.faults.plant(fault);
    }

    /// Somebody blocks the bot.
    pub fn block(&self, chat: &str) {
        lock(&self.inner.blocked).insert(chat.to_owned());
    }

    /// A group becomes a supergroup, with another number.
    pub fn migrate(&self, from: &str, to: i64) {
        lock(&self.inner.migrated).insert(from.to_owned(), to);
        lock(&self.inner.chats).insert(to.to_string());
    }

    /// What was told, in order.
    #[must_use]
    pub fn told(&self) -> Vec<ToldMessage> {
        lock(&self.inner.told).clone()
    }

    /// How many requests came while Telegram had asked to wait.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.inner.faults.early()
    }
}

fn refuse(status: u16, description: &str, parameters: Option<Value>) -> Response {
    let mut body = json!({ "ok": false, "error_code": status, "description": description });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(body)).into_response()
}

async fn send(
    State(inner): State<Arc<Inner>>,
    Path((bot, method)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> Response {
    match bot.strip_prefix("bot").map(|token| token == inner.token) {
        Some(true) if method == "sendMessage" => {}
        Some(false) if method == "sendMessage" => return refuse(401, "Unauthorized", None),
        _ => return refuse(404, "Not Found", None),
    }
    let fault = inner.faults.next();
    match &fault {
        Some(ChatFault::Limit(seconds)) => {
            let text = format!("Too Many Requests: retry after {seconds}");
            return refuse(429, &text, Some(json!({ "retry_after": seconds })));
        }
        Some(ChatFault::Refuse(status, description)) => return refuse(*status, description, None),
        _ => {}
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return refuse(400, "Bad Request: can't parse JSON object", None);
    };
    let message = match read(&inner, &request) {
        Ok(message) => message,
        Err(refused) => return refused,
    };
    let number = {
        let mut told = lock(&inner.told);
        told.push(message);
        told.len()
    };
    match fault {
        Some(ChatFault::NoAnswer) => std::future::pending().await,
        Some(ChatFault::LostAnswer) => (StatusCode::BAD_GATEWAY, "<html>502</html>").into_response(),
        _ => axum::Json(json!({ "ok": true, "result": { "message_id": number } })).into_response(),
    }
}

#[expect(clippy::result_large_err, reason = "the refusal is the answer")]
fn read(inner: &Inner, request: &Value) -> Result<ToldMessage, Response> {
    let bad = |text: &str| Err(refuse(400, &format!("Bad Request: {text}"), None));
    let chat = match &request["chat_id"] {
        Value::Number(number) => number.to_string(),
        Value::String(text) if !text.is_empty() => text.clone(),
        _ => return bad("chat_id is empty"),
    };
    if let Some(to) = lock(&inner.migrated).get(&chat) {
        let parameters = Some(json!({ "migrate_to_chat_id": to }));
        let text = "Bad Request: group chat was upgraded to a supergroup chat";
        return Err(refuse(400, text, parameters));
    }
    if lock(&inner.blocked).contains(&chat) {
        return Err(refuse(403, "Forbidden: bot was blocked by the user", None));
    }
    if !lock(&inner.chats).contains(&chat) {
        return bad("chat not found");
    }
    let text = request["text"].as_str().unwrap_or_default();
    let shown = match request.get("parse_mode").and_then(Value::as_str) {
        None => markdown::Shown { text: text.to_owned(), bold: Vec::new() },
        Some("MarkdownV2") => match markdown::parse(text) {
            Ok(shown) => shown,
            Err(why) => return bad(&format!("can't parse entities: {why}")),
        },
        Some(_) => return bad("unsupported parse_mode"),
    };
    match shown.text.trim().encode_utf16().count() {
        0 => bad("message text is empty"),
        length if length > LONGEST => bad("message is too long"),
        _ => Ok(ToldMessage { chat, topic: request["message_thread_id"].as_i64(), text: shown.text, bold: shown.bold }),
    }
}
