//! What a piece of code takes from elsewhere: its `use` lines and every path in it, also those in macros, whose tokens
//! are read as they are. A string is a path in an attribute only; anywhere else it's text.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemUse, Macro, Meta, Path, UseTree, Visibility};

/// One name of a `use` line.
#[derive(Debug)]
pub struct Use {
    /// What it's called from here on; `None` for `*`.
    pub name: Option<String>,
    pub path: Vec<String>,
    /// A `pub use` of any kind hands a name on, and isn't itself in need of it.
    pub handed_on: bool,
}

/// Whether something is compiled for tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test ,")
        }
        Meta::Path(path) => path.is_ident("test"),
        _ => false,
    })
}

/// Where tokens are: this decides what a string among them is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Attribute,
    Macro,
}

/// Gathers while it visits.
#[derive(Default)]
pub struct PathCollector {
    pub uses: Vec<Use>,
    pub mentioned: BTreeSet<Vec<String>>,
}

impl PathCollector {
    fn add_use(&mut self, mut prefix: Vec<String>, tree: &UseTree, handed_on: bool) {
        let (name, last) = match tree {
            UseTree::Path(tree) => {
                prefix.push(tree.ident.to_string());
                return self.add_use(prefix, &tree.tree, handed_on);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(prefix.clone(), tree, handed_on);
                }
                return;
            }
            UseTree::Glob(_) => (None, None),
            UseTree::Name(name) if name.ident == "self" => (prefix.last().cloned(), None),
            UseTree::Name(name) => (Some(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(rename) if rename.ident == "self" => (Some(rename.rename.to_string()), None),
            UseTree::Rename(rename) => (Some(rename.rename.to_string()), Some(rename.ident.to_string())),
        };
        prefix.extend(last);
        self.uses.push(Use { name, path: prefix, handed_on });
    }

    /// Paths among tokens. A single word counts where it looks like a call, a macro or a type: others are mostly variables.
    fn add_tokens(&mut self, place: Place, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
        let is_hash = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == '#');
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) if at > 1 && is_hash(at - 2) && group.delimiter() == Delimiter::Bracket => {
                    self.add_tokens(Place::Attribute, group.stream());
                }
                TokenTree::Group(group) => self.add_tokens(place, group.stream()),
                TokenTree::Literal(literal) if place == Place::Attribute => self.add_text(&literal.to_string()),
                TokenTree::Ident(first) => {
                    let mut path = vec![first.to_string()];
                    while is_colon(at) && is_colon(at + 1) {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
                        path.push(next.to_string());
                        at += 3;
                    }
                    let called = match tokens.get(at) {
                        Some(TokenTree::Group(_)) => true,
                        Some(TokenTree::Punct(mark)) => mark.as_char() == '!',
                        _ => false,
                    };
                    if path.len() > 1 || called || path[0].starts_with(char::is_uppercase) {
                        self.mentioned.insert(path);
                    }
                }
                TokenTree::Literal(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// A path written as a string, as in `#[serde(with = "super::seconds")]`.
    fn add_text(&mut self, literal: &str) {
        let path: Vec<String> = literal.trim_matches('"').split("::").map(str::to_owned).collect();
        let is_name = |part: &String| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if path.len() > 1 && path.iter().all(is_name) {
            self.mentioned.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for PathCollector {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs[..],
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(item) if is_test(&item.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_use(Vec::new(), &item.tree, !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            self.mentioned.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        self.visit_path(&invoked.path);
        self.add_tokens(Place::Macro, invoked.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(Place::Attribute, list.tokens.clone());
        }
    }

    /// `pub(in path)` says who may see something, and takes nothing from there.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
