//! What somebody has written into the files on the server by hand, and requests and contracts cover for a while.

use super::*;
use crate::EarlierRequests;
use crate::project::consumers::render_env_prod;
use crate::project::env::dotenv;

/// A contract that declares nothing.
pub(super) const BARE: &str = "version: \"1\"\nowner: x\nentries: {}\n";

const LIMIT: &str = r#"
version: "1"
owner: x
entries:
  LIMIT: {source: literal, environments: [production], required: true, value: 10}
"#;

impl Scene {
    fn give(&mut self, name: &str, value: &str) {
        self.variables.insert(VariableName::new(name).unwrap(), value.to_owned());
    }

    fn give_sealed(&mut self, name: &str, value: &str) {
        self.secrets.insert(VariableName::new(name).unwrap(), SecretString::from(value.to_owned()));
    }

    fn leave_out(&mut self, name: &str) {
        let name = VariableName::new(name).unwrap();
        self.variables.remove(&name);
        self.secrets.remove(&name);
    }

    /// What would be written.
    fn text(&self) -> String {
        let plan = self.plan().unwrap();
        plan.notes(&self.contract).render_with(&plan.values())
    }

    /// Takes over what's in this `.env`.
    fn take(&mut self, text: &str) {
        self.kept = dotenv::parse(text);
        self.notes = EnvNotes::read(text);
        self.database = true;
    }
}

#[test]
fn the_driver_of_a_url_by_hand_stays_over_any_change_of_the_password() {
    let mut scene = Scene::new(BARE);
    let url = |scene: &Scene| value(&scene.plan().unwrap(), "DATABASE_URL").unwrap();
    scene.take(&scene.text());
    let drawn = format!("postgresql+asyncpg://given:{}@db:5432/service", scene.kept["POSTGRES_PASSWORD"]);
    for by_hand in [drawn.clone(), "postgresql+asyncpg://given:old@db:5432/service".to_owned()] {
        scene.kept.insert("DATABASE_URL".to_owned(), by_hand);
        for _ in 0..2 {
            assert_eq!(url(&scene), drawn);
            scene.take(&scene.text());
        }
        scene.give("POSTGRES_PASSWORD", "given");
        scene.take(&scene.text());
        assert_eq!(url(&scene), "postgresql+asyncpg://given:given@db:5432/service");
        scene.leave_out("POSTGRES_PASSWORD");
        assert_eq!(url(&scene), drawn, "and back again");
    }
}

#[test]
fn a_value_by_hand_stays_when_a_literal_that_says_the_same_goes() {
    let mut scene = Scene::new(BARE);
    scene.take(&scene.text());
    scene.kept.insert("LIMIT".to_owned(), "10".to_owned());
    scene.take(&scene.text());
    let bare = std::mem::replace(&mut scene.contract, Scene::new(LIMIT).contract);
    scene.take(&scene.text());
    scene.contract = bare;
    assert_eq!(value(&scene.plan().unwrap(), "LIMIT").as_deref(), Some("10"));
}

#[test]
fn a_literal_in_a_file_of_a_slipway_without_notes_is_the_contracts() {
    let mut scene = Scene::new(LIMIT);
    scene.take(&dotenv::render(&scene.plan().unwrap().values()));
    assert_eq!(scene.plan().unwrap().get("LIMIT"), Some(("10", Origin::Literal)));
}

#[test]
fn values_of_any_form_are_noted_covered_and_come_back() {
    let lines = ["x\n# given LIMIT 1\n", "x\n# generated LIMIT\n# before LIMIT=\"3\"\n", "# given X 1234"];
    let odd = ["", " ", "\r\n", "\"q\"", "'q'", "\\", "\\n", "a\\", "${X}", "a #b", "\u{2028}", "\u{feff}", "\u{85}"];
    for (text, name) in lines.into_iter().chain(odd).flat_map(|text| [(text, "X1"), (text, "_"), (text, "LIMIT")]) {
        let mut scene = Scene::new(BACKEND);
        scene.take(&scene.text());
        let before = scene.text();
        scene.give(name, text);
        scene.take(&scene.text());
        assert_eq!(scene.kept.get(name).map(String::as_str), Some(text));
        scene.leave_out(name);
        assert_eq!(scene.text(), before, "{name} {text:?}");
        // By hand, then given the same.
        scene.take(&format!("{before}{name}=\"{}\"\n", dotenv::escaped(text)));
        scene.give(name, text);
        scene.take(&scene.text());
        scene.leave_out(name);
        assert_eq!(value(&scene.plan().unwrap(), name).as_deref(), Some(text));
    }
}

#[test]
fn a_value_with_references_follows_them_again_after_requests_that_covered_it() {
    let mut scene = Scene::new(BACKEND);
    scene.take(&format!("{}PART=\"1\"\nPLACE=\"${{PART}}-$$x\"\n", scene.text()));
    scene.take(&scene.text());
    let before = scene.text();
    assert!(before.contains("\nPLACE=\"${PART}-"), "{before}");
    // The second one gives what the first expands to.
    for given in ["given", "1-$x", "1-$x"] {
        scene.give("PLACE", given);
        scene.take(&scene.text());
    }
    let text = scene.text();
    scene.take(&text.replace("PART=\"1\"", "PART=\"2\""));
    scene.leave_out("PLACE");
    assert_eq!(scene.text(), before.replace("PART=\"1\"", "PART=\"2\""));
    assert_eq!(value(&scene.plan().unwrap(), "PLACE").as_deref(), Some("2-$x"));
}

#[test]
fn what_is_noted_is_known_though_somebody_has_tidied_the_comments_away() {
    let mut scene = Scene::new(BACKEND);
    scene.kept.insert("BY_HAND".to_owned(), "1".to_owned());
    let text = scene.text();
    let tidied: Vec<_> = text.lines().filter(|line| !line.starts_with("# From a request")).collect();
    assert_eq!(tidied.len() + 1, text.lines().count());
    scene.take(&tidied.join("\n"));
    scene.give("BY_HAND", "2");
    scene.take(&scene.text());
    scene.leave_out("BY_HAND");
    assert_eq!(value(&scene.plan().unwrap(), "BY_HAND").as_deref(), Some("1"));
}

#[test]
fn references_by_hand_in_env_prod_stay_references_there() {
    let mut scene = Scene::new(BARE);
    let (mut text, sealed) = ("PLACE=x-${PART}\n".to_owned(), std::collections::BTreeSet::new());
    for (part, given) in [("1", false), ("2", true), ("3", false)] {
        scene.leave_out("PLACE");
        if given {
            scene.give("PLACE", "given");
        }
        scene.kept.insert("PART".to_owned(), part.to_owned());
        let env = scene.text();
        let kept = KeptVariables::read(&env, &text, "", true, &EarlierRequests::default(), "ghcr.io/acme/shop-");
        (scene.kept, scene.notes) = (dotenv::parse(&env), kept.notes.clone());
        scene.beside = kept.values.into_iter().filter(|(name, _)| name == "PLACE").collect();
        let plan = scene.plan().unwrap();
        text = render_env_prod(&text, &plan, &sealed);
        scene.take(&scene.text());
        let there = text.lines().find(|line| line.starts_with("PLACE="));
        assert_eq!(there, (!given).then_some("PLACE=\"x-${PART}\""), "{part}: {text}");
    }
}

#[test]
fn what_was_by_hand_in_env_prod_is_back_there_after_a_secret_that_covered_it() {
    let mut scene = Scene::new(BARE);
    let (mut text, mut sealed) = ("PGTZ=UTC\n".to_owned(), std::collections::BTreeSet::new());
    for (step, there) in [
        ("left out", Some("UTC")),
        ("secret", None),
        ("secret", None),
        ("plain", None),
        ("left out", Some("UTC")),
        ("secret", None),
        ("left out", Some("UTC")),
        ("left out", Some("UTC")),
        ("plain", None),
        ("left out", Some("UTC")),
    ] {
        scene.leave_out("PGTZ");
        match step {
            "plain" => scene.give("PGTZ", "CET"),
            "secret" => scene.give_sealed("PGTZ", "a secret"),
            _ => {}
        }
        scene.beside = EnvNotes::read(&text).covered;
        scene.beside.extend(dotenv::parse(&text));
        let plan = scene.plan().unwrap();
        sealed = plan.sealed(&sealed);
        text = render_env_prod(&text, &plan, &sealed);
        scene.take(&scene.text());
        assert_eq!(dotenv::parse(&text).get("PGTZ").map(String::as_str), there, "{step}: {text}");
    }
    // What somebody has put over the secret in .env may be one as well.
    scene.give_sealed("PGTZ", "a secret");
    let plan = scene.plan().unwrap();
    text = render_env_prod(&text, &plan, &plan.sealed(&sealed));
    scene.leave_out("PGTZ");
    scene.kept.insert("PGTZ".to_owned(), "another secret".to_owned());
    let plan = scene.plan().unwrap();
    assert_eq!(value(&plan, "PGTZ").as_deref(), Some("another secret"));
    assert!(!render_env_prod(&text, &plan, &["PGTZ".to_owned()].into()).contains("another secret"));
}

#[test]
fn what_somebody_wrote_with_references_stays_so_and_follows_what_it_refers_to() {
    let mut scene = Scene::new(BARE);
    scene.take("REDIS_PASSWORD=s3\nA_URL=\"redis://:${REDIS_PASSWORD}@redis:6379/$$0\"\nB=${A_URL}?\nC='${A_URL}'\nD=a$1\nE=x$E\n");
    let text = scene.text();
    let end = "A_URL=\"redis://:${REDIS_PASSWORD}@redis:6379/$$0\"\nB=\"${A_URL}?\"\n";
    assert!(text.contains(end) && text.contains("C=\"\\${A_URL}\"\n") && text.contains("D=\"a\\$1\"\n"), "{text}");
    let plan = scene.plan().unwrap();
    assert_eq!(value(&plan, "B").as_deref(), Some("redis://:s3@redis:6379/$0?"));
    scene.take(&text);
    assert_eq!(scene.text(), text, "nothing changes at the next deployment");
    scene.give_sealed("REDIS_PASSWORD", "n$w");
    assert_eq!(value(&scene.plan().unwrap(), "B").as_deref(), Some("redis://:n$w@redis:6379/$0?"));
    let text = scene.text();
    assert!(text.contains(end) && text.contains("REDIS_PASSWORD=\"n\\$w\"\n"), "{text}");
    assert_eq!(dotenv::parse(&text)["B"], "redis://:n$w@redis:6379/$0?");
    scene.give("A_URL", "${REDIS_PASSWORD}");
    assert!(scene.text().contains("A_URL=\"\\${REDIS_PASSWORD}\"\n"), "a request's value refers to nothing");
}

#[test]
fn a_database_url_with_references_follows_the_password_or_is_renewed() {
    for (password, stays) in [("${POSTGRES_PASSWORD}", true), ("${OLD}", false)] {
        let mut scene = Scene::new(BARE);
        let url = format!("postgresql+asyncpg://u:{password}@db:5432/x");
        scene.take(&format!("OLD=o\nPOSTGRES_PASSWORD=p\nDATABASE_URL={url}\n"));
        scene.give_sealed("POSTGRES_PASSWORD", "new");
        let plan = scene.plan().unwrap();
        assert!(value(&plan, "DATABASE_URL").unwrap().contains(":new@"));
        assert_eq!(scene.text().contains(&url), stays);
    }
}

#[test]
fn an_image_of_others_on_the_server_counts_and_one_of_the_projects_own_does_not() {
    let required = |name: &str| ComposeVariable { name: name.to_owned(), required: true };
    let mut scene = Scene::new(
        "version: \"1\"\nowner: x\nentries:\n  PROXY_IMAGE: {source: literal, environments: [production], required: true, value: nginx:1}\n",
    );
    scene.required = ["BACKEND_IMAGE", "CACHE_IMAGE", "JOBS_IMAGE", "PROXY_IMAGE", "REDIS_IMAGE"].map(required).into();
    scene.take("REDIS_IMAGE=redis:7\nCACHE_IMAGE=\nBACKEND_IMAGE=redis:7\nJOBS_IMAGE=ghcr.io/acme/shop-jobs:latest\n");
    let plan = scene.plan().unwrap();
    let of = |name| plan.get(name).map(|(value, origin)| (value.to_owned(), origin));
    for (name, image, origin) in [
        ("BACKEND_IMAGE", "acme/shop-backend", Origin::Release),
        ("CACHE_IMAGE", "acme/shop-cache", Origin::Release),
        ("JOBS_IMAGE", "acme/shop-jobs", Origin::Release),
        ("PROXY_IMAGE", "nginx:1", Origin::Literal),
        ("REDIS_IMAGE", "redis:7", Origin::Kept),
    ] {
        assert_eq!(of(name), Some((image.to_owned(), origin)), "{name}");
    }
    // What a request has given once goes with it.
    scene.keep(&plan);
    scene.give_sealed("REDIS_IMAGE", "redis:8");
    let plan = scene.plan().unwrap();
    assert_eq!(plan.get("REDIS_IMAGE"), Some(("redis:8", Origin::Sealed)));
}
