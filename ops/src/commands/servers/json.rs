//! A server of the inventory as JSON, for `add`, `list` and `show`.

use serde_json::{Value, json};
use slipway_worker::store::ServerRecord;

/// A server without its private key, not even the encrypted one.
pub(super) fn server_json(server: &ServerRecord) -> Value {
    json!({
        "handle": server.handle,
        "address": server.address,
        "ssh_port": server.ssh_port,
        "ssh_user": server.ssh_user,
        "host_key": server.host_key,
        "trust_on_first_use": server.trust_on_first_use,
        "has_own_ssh_key": server.ssh_key_enc.is_some(),
        "note": server.notes,
        // Null: as the workers' setting says.
        "front_door": server.front_door,
    })
}
