//! The modules of a crate, each with the names that it defines, what it imports and the paths that its code mentions.
//! What is compiled for tests alone (`#[cfg(test)]`) isn't here.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;
use syn::visit::Visit as _;

use crate::tree::{Files, parse};
use crate::uses::{PathCollector, Use, is_test};

/// One module; several may share a file.
#[derive(Debug, Default)]
pub struct SourceModule {
    pub file: String,
    pub parent: Option<usize>,
    pub children: BTreeMap<String, usize>,
    /// With whether it's a type (or a trait), whose own names may follow in a path.
    pub defined: BTreeMap<String, bool>,
    pub uses: Vec<Use>,
    pub mentioned: BTreeSet<Vec<String>>,
}

/// The files that a crate begins with: libraries, programs and test binaries, by cargo's own rules.
pub fn roots(files: &Files) -> Vec<&str> {
    let packages: Vec<&str> = files.keys().filter_map(|path| path.strip_suffix("Cargo.toml")).collect();
    let is_root = |path: &&str| {
        let package = packages.iter().filter(|package| path.starts_with(**package)).max_by_key(|package| package.len());
        let Some(rest) = package.and_then(|package| path.strip_prefix(package)) else { return false };
        match rest.split('/').collect::<Vec<_>>()[..] {
            ["src", "lib.rs" | "main.rs"] | ["src", "bin", _, "main.rs"] | ["tests", _, "main.rs"] => true,
            ["src", "bin", file] | ["tests", file] => file.ends_with(".rs"),
            _ => false,
        }
    };
    files.keys().map(String::as_str).filter(is_root).collect()
}

/// All modules of the crate that begins at `root`; the first one is the crate's own.
pub fn load(files: &Files, root: &str) -> Vec<SourceModule> {
    let mut modules = Vec::new();
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    add_file(files, &mut modules, root, &folder, None);
    modules
}

/// `folder` is where the files of the module's children lie.
fn add_file(files: &Files, modules: &mut Vec<SourceModule>, file: &str, folder: &str, parent: Option<usize>) -> usize {
    let parsed = parse(file, &files[file]);
    add_items(files, modules, (file, folder), parent, &parsed.items)
}

fn add_items(
    files: &Files,
    modules: &mut Vec<SourceModule>,
    (file, folder): (&str, &str),
    parent: Option<usize>,
    items: &[Item],
) -> usize {
    let own = modules.len();
    modules.push(SourceModule { file: file.to_owned(), parent, ..SourceModule::default() });
    let mut collector = PathCollector::default();
    for item in items {
        match item {
            Item::Mod(item) if is_test(&item.attrs) => {}
            Item::Mod(item) => {
                let name = item.ident.to_string();
                let inside = format!("{folder}/{name}");
                let child = match &item.content {
                    Some((_, items)) => add_items(files, modules, (file, &inside), Some(own), items),
                    None => {
                        let (path, inside) = find(files, item, file, folder, inside);
                        add_file(files, modules, &path, &inside, Some(own))
                    }
                };
                modules[own].children.insert(name, child);
            }
            item => {
                if let Some((name, is_type)) = definition(item) {
                    *modules[own].defined.entry(name).or_default() |= is_type;
                }
                collector.visit_item(item);
            }
        }
    }
    modules[own].uses = collector.uses;
    modules[own].mentioned = collector.mentioned;
    own
}

/// The file of `mod name;` and the folder of its own children.
fn find(files: &Files, item: &syn::ItemMod, file: &str, folder: &str, inside: String) -> (String, String) {
    let set = item.attrs.iter().filter(|attribute| attribute.path().is_ident("path")).find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &pair.value else { return None };
        Some(crate::paths::join(file.rsplit_once('/').map_or("", |(folder, _)| folder), &path.value()))
    });
    if let Some(path) = set {
        let inside = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        return (path, inside);
    }
    let candidates =
        [format!("{inside}.rs"), format!("{inside}/mod.rs")].map(|path| path.trim_start_matches('/').to_owned());
    let found = candidates.into_iter().find(|path| files.contains_key(path));
    (found.unwrap_or_else(|| panic!("{file}: no file of module `{}` in {folder}", item.ident)), inside)
}

/// The name that an item gives to what it defines, and whether that is a type.
pub fn definition(item: &Item) -> Option<(String, bool)> {
    let (ident, is_type) = match item {
        Item::Struct(item) => (&item.ident, true),
        Item::Enum(item) => (&item.ident, true),
        Item::Union(item) => (&item.ident, true),
        Item::Trait(item) => (&item.ident, true),
        Item::Type(item) => (&item.ident, true),
        Item::Fn(item) => (&item.sig.ident, false),
        Item::Const(item) => (&item.ident, false),
        Item::Static(item) => (&item.ident, false),
        Item::Macro(item) => (item.ident.as_ref()?, false),
        _ => return None,
    };
    Some((ident.to_string(), is_type))
}
