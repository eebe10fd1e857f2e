//! One bad message, and the valid event that it's made of.

use serde_json::{Value, json};
use slipway_protocol::ErrorCode;
use slipway_tests::bus::ReceivedMessage;
use slipway_tests::stack::Stack;

/// `source` of every event here.
pub const SOURCE: &str = "/orchestrator;$(reboot)";
/// The trace of every event here that has one.
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// What a shell would do something with, and so would a path or a compose file.
pub const SHELL: &str = "x;$(touch /tmp/owned)`id`|&>/tmp/x '\"\\ ${HOME} {{.}} %s";
/// Stands in secrets wherever one shouldn't be.
pub const SECRET: &str = "hunter2-correct-horse-battery";

/// A bad message.
pub struct BadMessage {
    pub name: String,
    pub message: ReceivedMessage,
    pub code: ErrorCode,
    /// `id` of the event, when it and the source can be read.
    pub id: Option<String>,
    pub secrets: Vec<String>,
}

impl BadMessage {
    /// A body whose ids can't be read.
    pub fn opaque(name: &str, code: ErrorCode, body: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), message: ReceivedMessage::structured(body), code, id: None, secrets: Vec::new() }
    }

    /// An event that `edit` makes bad.
    pub fn event(stack: &Stack, name: &str, code: ErrorCode, edit: impl FnOnce(&mut Value)) -> Self {
        let id = format!("bad: {name}");
        let mut event = event(stack, &id);
        edit(&mut event);
        let readable = event["source"] == SOURCE && event["id"] == id.as_str();
        Self { id: readable.then_some(id), ..Self::opaque(name, code, event.to_string()) }
    }

    pub fn holding(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self { message: self.message.header(name, value), ..self }
    }

    pub fn unread(self) -> Self {
        Self { id: None, ..self }
    }
}

/// A valid event, for a server on which nobody listens.
pub fn event(stack: &Stack, id: &str) -> Value {
    let project = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, id.as_bytes());
    let slug = format!("p{}", &project.simple().to_string()[..8]);
    json!({
        "specversion": "1.0", "id": id, "source": SOURCE, "type": "slipway.project.ready.v1",
        "subject": SHELL, "time": jiff::Timestamp::now(), "datacontenttype": "application/json",
        "traceparent": format!("00-{TRACE}-00f067aa0ba902b7-01"),
        "data": {
            "project": { "id": project, "slug": slug },
            "repository": { "name": format!("acme/{slug}"), "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main" },
            "server": { "handle": "nowhere", "address": "127.0.0.1", "ssh_port": 1 },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": ["backend"],
            "variables": { "GREETING": SHELL },
            "secrets": { "BOT": stack.sealed(SECRET).expect("it can be sealed") },
            "correlation": { "correlation_id": SHELL, "chat": { "id": -100 }, "story_id": null },
        },
    })
}
