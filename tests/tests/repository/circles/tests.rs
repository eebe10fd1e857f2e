//! The search for circles, on small made-up trees: each kind that it has to see, and what isn't one.

use super::circles;
use crate::tree::Files;

/// The circles of a crate with these files in `src`.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(path, text)| (format!("made/src/{path}"), (*text).to_owned()));
    circles(&files.chain([("made/Cargo.toml".to_owned(), String::new())]).collect::<Files>())
}

/// Asserts that there's one circle, with these arrows (without the folder).
fn assert_circle(files: &[(&str, &str)], arrows: &[&str]) {
    let circles = found(files);
    let [circle] = &circles[..] else { panic!("{circles:?}") };
    let seen: Vec<String> = circle.lines().skip(1).map(|line| line.trim().replace("made/src/", "")).collect();
    assert_eq!(seen, arrows);
}

const AB: (&str, &str) = ("lib.rs", "mod a; mod b;");

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    assert_circle(
        &[
            AB,
            ("a.rs", "use crate::b::{B, C};\npub struct A;"),
            ("b.rs", "use super::a::A;\npub struct B; pub struct C;"),
        ],
        &["b.rs -> a.rs: A", "a.rs -> b.rs: B, C"],
    );
}

#[test]
fn one_direction_alone_is_no_circle() {
    assert_eq!(found(&[AB, ("a.rs", "use crate::b::B;"), ("b.rs", "pub struct B;")]), [""; 0]);
}

#[test]
fn a_reexport_is_seen_through_to_the_file_with_the_definition() {
    let a = ("a.rs", "use crate::B as Other;\npub struct A;");
    let b = ("b.rs", "pub struct B(crate::prelude::A);");
    assert_circle(
        &[("lib.rs", "mod a; mod b; mod prelude; pub use b::B;"), ("prelude.rs", "pub use crate::a::*;"), a, b],
        &["a.rs -> b.rs: B", "b.rs -> a.rs: A"],
    );
}

#[test]
fn reexports_alone_tie_nothing() {
    let parent = ("a/mod.rs", "mod child; pub use child::Child; pub(crate) use self::child::*;");
    assert_eq!(
        found(&[("lib.rs", "mod a;"), parent, ("a/child.rs", "use super::Child as Me; pub struct Child;")]),
        [""; 0]
    );
}

#[test]
fn parent_and_child_are_a_circle_when_each_needs_what_the_other_defines() {
    let parent = ("a/mod.rs", "mod child; pub struct Parent; pub fn start() { child::run() }");
    assert_circle(
        &[("lib.rs", "mod a;"), parent, ("a/child.rs", "pub(super) fn run() { let _ = super::Parent; }")],
        &["a/child.rs -> a/mod.rs: Parent", "a/mod.rs -> a/child.rs: run"],
    );
}

#[test]
fn a_circle_through_three_files_is_one() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "pub fn a() { crate::b::b() }"),
        ("b.rs", "use crate::c; pub fn b() { c::c() }"),
        ("c.rs", "use crate::a::*; pub fn c() { a() }"),
    ];
    assert_circle(&files, &["a.rs -> b.rs: b", "b.rs -> c.rs: c", "c.rs -> a.rs: a"]);
}

#[test]
fn paths_in_types_macros_attributes_and_functions_tie_too() {
    for taken in [
        "pub struct B { a: Vec<crate::a::A> }",
        "impl crate::a::A { fn b() {} }",
        "fn b() { println!(\"{}\", crate::a::A::new()) }",
        "#[serde(with = \"crate::a::A\")] struct C;",
        "#[arg(value_parser = crate::a::A::parse)] struct C;",
        "fn b() { use crate::a; let _: a::A; }",
        "mod inline { use super::super::a::A; }",
        "macro_rules! made { () => { $crate::a::A } }",
    ] {
        let b = format!("pub struct Own; {taken}");
        assert_circle(
            &[AB, ("a.rs", "use crate::b::Own; pub struct A;"), ("b.rs", &b)],
            &["a.rs -> b.rs: Own", "b.rs -> a.rs: A"],
        );
    }
}

#[test]
fn what_is_compiled_for_tests_alone_ties_nothing() {
    let b = "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[cfg(test)] fn made() -> crate::a::A {}";
    assert_eq!(found(&[AB, ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", b)]), [""; 0]);
}

#[test]
fn modules_and_functions_of_one_name_are_told_apart() {
    let parent = "mod retry; pub use retry::retry; pub struct Policy;";
    let child = "pub fn retry(_: u8) { let retry = 1; }";
    assert_eq!(
        found(&[
            ("lib.rs", "mod a; fn main() { a::retry(1); a::retry::retry(2) }"),
            ("a/mod.rs", parent),
            ("a/retry.rs", child)
        ]),
        [""; 0]
    );
}

#[test]
fn a_visibility_and_another_crate_tie_nothing() {
    let b = "pub(in crate::a) struct B; use backoff::a::A; fn b() { ::a::A::new() }";
    assert_eq!(found(&[AB, ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", b)]), [""; 0]);
}
