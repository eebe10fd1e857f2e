//! Who defines what a path names. Re-exports are seen through down to the file with the definition. What comes from
//! another crate, a local variable or a generic parameter is nobody's here.

use std::collections::BTreeSet;

use crate::modules::SourceModule;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathTarget {
    Module(usize),
    Item { module: usize, name: String, is_type: bool },
}

/// Which names are being looked up already, so that imports in a loop come to an end.
type Seen = BTreeSet<(usize, String)>;

/// All that `path` may name when it's read in `module`: a module and a function may have one name.
pub fn resolve(modules: &[SourceModule], module: usize, path: &[String]) -> BTreeSet<PathTarget> {
    follow(modules, module, path, &mut Seen::new())
}

fn follow(modules: &[SourceModule], module: usize, path: &[String], seen: &mut Seen) -> BTreeSet<PathTarget> {
    let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
    let mut targets = match first.as_str() {
        "crate" => BTreeSet::from([PathTarget::Module(0)]),
        "self" => BTreeSet::from([PathTarget::Module(module)]),
        "super" => modules[module].parent.map(PathTarget::Module).into_iter().collect(),
        name => look_up(modules, module, name, seen),
    };
    for name in rest {
        let step = |target: PathTarget| match target {
            PathTarget::Module(at) if name == "super" => {
                modules[at].parent.map(PathTarget::Module).into_iter().collect()
            }
            PathTarget::Module(at) => look_up(modules, at, name, &mut seen.clone()),
            // A variant or an associated function: the type is what is taken.
            PathTarget::Item { is_type: true, .. } => BTreeSet::from([target]),
            PathTarget::Item { .. } => BTreeSet::new(),
        };
        targets = targets.into_iter().flat_map(step).collect();
    }
    targets
}

fn look_up(modules: &[SourceModule], module: usize, name: &str, seen: &mut Seen) -> BTreeSet<PathTarget> {
    if !seen.insert((module, name.to_owned())) {
        return BTreeSet::new();
    }
    let here = &modules[module];
    let mut targets = BTreeSet::new();
    if let Some(is_type) = here.defined.get(name) {
        targets.insert(PathTarget::Item { module, name: name.to_owned(), is_type: *is_type });
    }
    targets.extend(here.children.get(name).copied().map(PathTarget::Module));
    for import in here.uses.iter().filter(|import| import.name.as_deref() == Some(name)) {
        targets.extend(follow(modules, module, &import.path, &mut seen.clone()));
    }
    if targets.is_empty() {
        for glob in here.uses.iter().filter(|import| import.name.is_none()) {
            for target in follow(modules, module, &glob.path, &mut seen.clone()) {
                if let PathTarget::Module(at) = target {
                    targets.extend(look_up(modules, at, name, &mut seen.clone()));
                }
            }
        }
    }
    targets
}
