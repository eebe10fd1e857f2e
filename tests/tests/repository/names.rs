//! One name, one thing: no two public types of the workspace share a name, tests' own included. Whoever searches for a name
//! finds the one that is meant.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Item, Visibility};

use crate::modules::definition;
use crate::tree::{self, Files, parse, report, rust};

const RULE: &str = "\
public types with the same name: give each the word that says what it is in its own crate, or put the name on the list of
exceptions in this file, with a reason";

/// Names that stand for more than one thing, each with the reason why that's right.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// The files where each public type of a name is defined; a file that defines two of them is here twice.
fn public_types(files: &Files) -> BTreeMap<String, Vec<String>> {
    let mut types = BTreeMap::new();
    for (path, text) in rust(files) {
        add(&mut types, path, &parse(path, text).items);
    }
    types
}

fn add(types: &mut BTreeMap<String, Vec<String>>, path: &str, items: &[Item]) {
    for item in items {
        let visibility = match item {
            Item::Struct(item) => &item.vis,
            Item::Enum(item) => &item.vis,
            Item::Union(item) => &item.vis,
            Item::Trait(item) => &item.vis,
            Item::Type(item) => &item.vis,
            Item::Mod(item) => {
                add(types, path, item.content.as_ref().map_or(&[], |(_, items)| items));
                continue;
            }
            Item::Macro(item) if item.ident.is_none() => {
                for name in generated(item.mac.tokens.clone()) {
                    types.entry(name).or_default().push(path.to_owned());
                }
                continue;
            }
            _ => continue,
        };
        if let Some((name, _)) = definition(item).filter(|_| !matches!(visibility, Visibility::Inherited)) {
            types.entry(name).or_default().push(path.to_owned());
        }
    }
}

/// The public types among the tokens that a macro is given: `pub struct Name`.
fn generated(tokens: TokenStream) -> Vec<String> {
    let words: Vec<String> = tokens
        .into_iter()
        .filter(|token| !matches!(token, TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Parenthesis))
        .map(|token| token.to_string())
        .collect();
    let is_definition =
        |three: &&[String]| three[0] == "pub" && ["struct", "enum", "trait", "type"].contains(&three[1].as_str());
    words.windows(3).filter(is_definition).map(|three| three[2].clone()).collect()
}

fn repeated(files: &Files) -> Vec<String> {
    let excepted: BTreeSet<&str> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    let mut findings = Vec::new();
    for (name, places) in public_types(files) {
        match (places.len() > 1, excepted.contains(name.as_str())) {
            (true, false) => findings.push(format!("{name}: {}", places.join(", "))),
            (false, true) => findings.push(format!("{name}: an exception in vain")),
            _ => {}
        }
    }
    findings
}

#[test]
fn no_two_public_types_share_a_name() {
    report(RULE, &repeated(&tree::files()));
}

#[test]
fn a_name_for_two_types_is_found_in_modules_macros_and_any_visibility() {
    let made = [
        ("a.rs", "pub struct One; pub(crate) enum Two {} struct Private; ids! { pub struct Three; }"),
        (
            "b.rs",
            "mod inside { pub(super) type One = u8; } pub trait Two {} struct Private; pub(in crate::b) union Three { a: u8 }",
        ),
    ];
    let files = made.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    assert_eq!(repeated(&files), ["One: a.rs, b.rs", "Three: a.rs, b.rs", "Two: a.rs, b.rs"]);
}
