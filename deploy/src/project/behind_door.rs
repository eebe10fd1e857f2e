//! Which services stand behind the server's front door, and which of them can run twice for a while, so that a new release
//! takes over without a gap. No I/O; how it's done on the server is in `scripts/switch.sh`.

use serde::Deserialize;
use serde_json::Value;
use slipway_protocol::Allocation;
use slipway_protocol::names::ServiceName;

/// The template's modules that ask others and needn't listen, though a port may be allocated to them.
pub(crate) fn may_poll(module: &ServiceName) -> bool {
    matches!(module.as_str(), "tg_bot" | "notifications_worker")
}

/// What the compose files say of a service that bears on whether there may be two of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Singular {
    volumes: Vec<Value>,
    network_mode: Option<Value>,
    networks: Option<Value>,
    pid: Option<Value>,
}

impl Singular {
    /// What it mounts: the kind, and the two places.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.volumes.iter().map(|volume| {
            let [kind, source, target] =
                ["type", "source", "target"].map(|key| volume[key].as_str().unwrap_or_default());
            (kind, source, target)
        })
    }

    /// The server's files and folders that it mounts.
    pub(super) fn bound(&self) -> impl Iterator<Item = &str> {
        self.mounts().filter(|(kind, ..)| *kind == "bind").map(|(_, source, _)| source)
    }

    /// Why there can be only one at a time; `named`: its container has a name of its own, `awaited`: a service that
    /// stays as it is waits for it, and may have looked up its address once.
    pub(super) fn why(&self, service: &ServiceName, named: bool, awaited: bool) -> Option<&'static str> {
        if !service.serves_web() {
            Some("it-may-be-a-bot")
        } else if named {
            Some("its-container-is-named")
        } else if self.volumes.iter().any(writes) {
            Some("it-writes-a-volume")
        } else if self.network_mode.is_some() || self.pid.is_some() {
            Some("it-shares-a-namespace")
        } else if self.networks.as_ref().is_some_and(is_static) {
            Some("its-address-is-fixed")
        } else if awaited {
            Some("another-service-holds-on-to-it")
        } else {
            None
        }
    }
}

/// The override file's lines about the port of a module; behind a front door with what its scripts read there, and with the
/// server's own address, which the scripts replace by that of a slot. `why`: there is a door, and why a new release can't run
/// beside the old one.
pub(super) fn ports_lines(allocation: &Allocation, why: Option<Option<&'static str>>) -> String {
    // A module without a port publishes none.
    let Some(port) = allocation.host_port else { return "    ports: !reset []\n".to_owned() };
    let published = format!("{port}:{}", allocation.container_port);
    match why.filter(|_| allocation.speaks_http()) {
        None => format!("    ports: !override\n      - \"{published}\"\n"),
        Some(why) => {
            let way = why.map_or_else(|| "overlap".to_owned(), |why| format!("stop-first:{why}"));
            let domains: String = allocation.domains.iter().map(|domain| format!(" {domain}")).collect();
            let domains = if domains.is_empty() { domains } else { format!("    # domains:{domains}\n") };
            format!("    # front door: {way}\n{domains}    ports: !override\n      - \"127.0.0.1:{published}\"\n")
        }
    }
}

/// A volume that two containers would write at the same time.
fn writes(volume: &Value) -> bool {
    match volume {
        Value::String(short) => !short.ends_with(":ro"),
        long => long["type"] != "tmpfs" && long["read_only"] != true,
    }
}

/// Whether an address in one of its networks is given.
fn is_static(networks: &Value) -> bool {
    let fixed = ["ipv4_address", "ipv6_address", "mac_address"];
    let networks = networks.as_object().into_iter().flat_map(|networks| networks.values());
    networks.into_iter().any(|network| fixed.iter().any(|key| !network[*key].is_null()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_service_behind_the_door_has_its_way_and_its_domains_written_above_its_port() {
        let allocation = |service: &str, domains: &[&str]| -> Allocation {
            let json = serde_json::json!({
                "service": service, "host_port": 8080, "container_port": 80, "domains": domains,
            });
            serde_json::from_value(json).expect("an allocation")
        };
        let shop = allocation("frontend", &["shop.example.org", "www.shop.example.org"]);
        assert_eq!(
            ports_lines(&shop, Some(None)),
            "    # front door: overlap\n    # domains: shop.example.org www.shop.example.org\n    ports: !override\n      \
             - \"127.0.0.1:8080:80\"\n"
        );
        let published = "    ports: !override\n      - \"8080:80\"\n";
        assert_eq!(ports_lines(&shop, None), published, "no door, no domains");
        let plain = allocation("backend", &[]);
        let written = ports_lines(&plain, Some(Some("it-writes-a-volume")));
        assert!(written.starts_with("    # front door: stop-first:it-writes-a-volume\n    ports: "), "{written}");
    }

    #[test]
    fn what_there_can_be_only_one_of_is_told_with_its_reason() {
        let rows = [
            ("{}", None),
            (
                r#"{"volumes": [{"type": "bind", "source": "/a", "read_only": true}, "b:/c:ro", {"type": "tmpfs"}]}"#,
                None,
            ),
            (r#"{"volumes": [{"type": "volume", "source": "data"}]}"#, Some("it-writes-a-volume")),
            (r#"{"volumes": ["data:/data"]}"#, Some("it-writes-a-volume")),
            (r#"{"network_mode": "host"}"#, Some("it-shares-a-namespace")),
            (r#"{"networks": {"default": null}}"#, None),
            (r#"{"networks": ["default"]}"#, None),
            (r#"{"networks": {"default": {"ipv4_address": "10.0.0.2"}}}"#, Some("its-address-is-fixed")),
        ];
        let service = |name: &str| ServiceName::new(name).expect("a name");
        for (json, why) in rows {
            let singular: Singular = serde_json::from_str(json).expect("a service");
            assert_eq!(singular.why(&service("backend"), false, false), why, "{json}");
        }
        let plain = Singular::default();
        assert_eq!(plain.why(&service("tg_bot"), false, false), Some("it-may-be-a-bot"));
        assert_eq!(plain.why(&service("frontend"), true, false), Some("its-container-is-named"));
        assert_eq!(plain.why(&service("frontend"), false, true), Some("another-service-holds-on-to-it"));
    }
}
