//! What several variables mean together: webhooks, front doors.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::Fixture;

const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

#[test]
fn webhooks_need_a_secret_that_cant_be_guessed() {
    let mut fixture = Fixture::new();
    fixture.set("SLIPWAY_WEBHOOK_ADDR", "127.0.0.1:8080");
    let secret = fixture.file("hook", "not long enough\n");
    fixture.set("SLIPWAY_WEBHOOK_SECRET_FILE", secret.to_str().unwrap());
    let mistakes = fixture.mistakes();
    assert!(mistakes.len() == 1 && mistakes[0].contains("fewer than 16"), "{mistakes:?}");
    fixture.file("hook", "it is long enough\n");
    let webhooks = fixture.config().pushes.webhooks.unwrap();
    assert_eq!(webhooks.secret.expose_secret(), "it is long enough");
}

#[test]
fn a_front_door_is_known_though_doors_are_off_and_pinned_by_its_digest() {
    let mut fixture = Fixture::new();
    let door = fixture.config().deployer.front_door.unwrap();
    assert!(door.for_server(None).is_some() && door.for_server(Some(false)).is_none());
    assert!(door.image.as_str().starts_with("docker.io/library/caddy:2.11.4-alpine@sha256:"));
    assert_eq!((door.drain_limit, door.proving_time), (Duration::from_secs(30), Duration::from_secs(12)));
    assert!(door.acme.directory.is_none() && door.acme.email.is_none());
    assert!(door.acme.external_account.is_none() && door.acme.ca_certificates.is_none());
    for (name, value) in [
        ("SLIPWAY_FRONT_DOOR", "off"),
        ("SLIPWAY_DRAIN_LIMIT", "0s"),
        ("SLIPWAY_ACME_DIRECTORY", "https://ca.example/acme/directory"),
        ("SLIPWAY_ACME_EMAIL", "ops+acme@example.org"),
    ] {
        fixture.set(name, value);
    }
    let door = fixture.config().deployer.front_door.unwrap();
    assert!(door.for_server(None).is_none() && door.for_server(Some(true)).is_some());
    assert_eq!(door.drain_limit, Duration::ZERO);
    assert_eq!(door.acme.directory.unwrap().as_str(), "https://ca.example/acme/directory");
    assert_eq!(door.acme.email.unwrap().as_str(), "ops+acme@example.org");
}

#[test]
fn an_account_at_an_authority_has_an_id_and_a_key_that_is_never_shown() {
    let mut fixture = Fixture::new();
    fixture.set("SLIPWAY_ACME_EAB_KEY_ID", "kid-1");
    let mistakes = fixture.mistakes();
    assert!(
        mistakes.len() == 1 && mistakes[0].contains("SLIPWAY_ACME_EAB_KEY_FILE is missing, though"),
        "{mistakes:?}"
    );
    let key = fixture.file("eab", "no key at all {$HOME}\n");
    fixture.set("SLIPWAY_ACME_EAB_KEY_FILE", key.to_str().unwrap());
    let mistakes = fixture.mistakes();
    assert!(mistakes.len() == 1 && mistakes[0].contains("doesn't hold a key as base64url"), "{mistakes:?}");
    assert!(!mistakes[0].contains("no key at all"), "{mistakes:?}");
    fixture.file("eab", &format!("{EAB_KEY}\n"));
    let config = fixture.config();
    assert!(!format!("{config:?}").contains(EAB_KEY));
    let account = config.deployer.front_door.unwrap().acme.external_account.unwrap();
    assert_eq!((account.key_id.as_str(), account.key.expose_secret()), ("kid-1", EAB_KEY));
    fixture.set("SLIPWAY_ACME_EAB_KEY_ID", "");
    let mistakes = fixture.mistakes();
    assert!(mistakes.len() == 1 && mistakes[0].contains("SLIPWAY_ACME_EAB_KEY_ID is missing, though"), "{mistakes:?}");
}
