//! No file of a crate needs another one that needs the first one, be it through a third. A file needs another one if it
//! uses a name that the other one defines; `mod name;` and `pub use` need nothing by themselves.

mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::modules::{SourceModule, load, roots};
use crate::resolve::{PathTarget, resolve};
use crate::tree::{self, Files, report};

const RULE: &str = "\
files that need each other in a circle: none of them can be understood, tested or moved without the others

How to cut one: take the arrow with the fewest names, and carry the definitions of those names to the file that they are
about: to the other end of the arrow, or to a file of their own that needs nothing of the circle. A child that needs what
its parent's mod.rs defines, while the parent needs the child, is a circle too: leave only `mod` and `pub use` in mod.rs, or
hand to the child what it needs as an argument. Moving the arrow into a macro, a trait or a callback doesn't cut it.";

/// For each file, the files that it needs, with the names that it takes from there.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn arrows(modules: &[SourceModule]) -> Arrows {
    let mut arrows = Arrows::new();
    for (at, module) in modules.iter().enumerate() {
        let imported = module.uses.iter().filter(|import| !import.handed_on).map(|import| &import.path);
        for path in module.mentioned.iter().chain(imported) {
            for target in resolve(modules, at, path) {
                let PathTarget::Item { module: owner, name, .. } = target else { continue };
                if modules[owner].file != module.file {
                    let needed = arrows.entry(module.file.clone()).or_default();
                    needed.entry(modules[owner].file.clone()).or_default().insert(name);
                }
            }
        }
    }
    arrows
}

/// All that can be reached from a file.
fn reached<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The files of each circle, and the arrows that tie them, those with the fewest names first.
fn circles(files: &Files) -> Vec<String> {
    let mut found = BTreeSet::new();
    for root in roots(files) {
        let arrows = arrows(&load(files, root));
        let reach: BTreeMap<&str, _> = arrows.keys().map(|file| (file.as_str(), reached(&arrows, file))).collect();
        for (file, others) in &reach {
            let circle: BTreeSet<&str> = others
                .iter()
                .copied()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(file)))
                .collect();
            if circle.first() == Some(file) {
                found.insert(describe(&arrows, &circle));
            }
        }
    }
    found.into_iter().collect()
}

fn describe(arrows: &Arrows, circle: &BTreeSet<&str>) -> String {
    let mut text = format!("a circle of {} files:", circle.len());
    let mut ties: Vec<(&str, &String, &BTreeSet<String>)> = circle
        .iter()
        .flat_map(|from| arrows[*from].iter().map(|(to, names)| (*from, to, names)))
        .filter(|(_, to, _)| circle.contains(to.as_str()))
        .collect();
    ties.sort_by_key(|(.., names)| names.len());
    for (from, to, names) in ties {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        write!(text, "\n  {from} -> {to}: {}", names.join(", ")).unwrap();
    }
    text
}

#[test]
fn no_modules_need_each_other_in_a_circle() {
    report(RULE, &circles(&tree::files()));
}
