//! What somebody has written into the files on the server by hand, and requests and contracts cover for a while.

use super::*;
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
