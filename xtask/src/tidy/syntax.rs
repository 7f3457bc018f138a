//! A Rust file as syn parses it: its modules, what each defines, imports and names.
//!
//! Macro calls and attributes are not parsed any further; the paths among their tokens count as
//! named, too.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};

/// A file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the workspace.
    pub(super) file: String,
    pub(super) text: String,
    pub(super) tokens: TokenStream,
    /// The file's own module, then the inline modules in it.
    pub(super) modules: Vec<Module>,
}

/// A module: a file, or a `mod name { … }` in one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// The names of the inline modules around it, and its own; empty for the file's.
    pub(super) inline: Vec<String>,
    /// What it defines, without modules.
    pub(super) items: BTreeSet<String>,
    pub(super) children: Vec<Child>,
    pub(super) imports: Vec<Import>,
    /// The paths that its code names.
    pub(super) paths: Vec<Named>,
}

/// A module in a module.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) line: usize,
    /// `pub mod`, without a restriction.
    pub(super) public: bool,
    /// Its `#[path = "…"]`.
    pub(super) path: Option<String>,
    /// Only compiled for tests.
    pub(super) test: bool,
}

/// One name that a `use` brings in.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) named: Named,
    /// `None` for a glob.
    pub(super) alias: Option<String>,
    /// Not for this module alone: `pub use` and its restricted forms.
    pub(super) reexport: bool,
}

/// A path, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// By a `use`.
    pub(super) imported: bool,
    /// Only compiled for tests.
    pub(super) test: bool,
}

impl Source {
    /// An error says where the file is no Rust.
    pub(super) fn parse(file: &str, text: &str) -> syn::Result<Self> {
        let tokens: TokenStream = text.parse().map_err(syn::Error::from)?;
        let mut reader = Reader { modules: vec![Module::default()], open: vec![0], test: false };
        reader.visit_file(&syn::parse2(tokens.clone())?);
        Ok(Self { file: file.to_owned(), text: text.to_owned(), tokens, modules: reader.modules })
    }

    /// Every path of the file, imports included.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Named> {
        self.modules.iter().flat_map(|module| {
            module.paths.iter().chain(module.imports.iter().map(|import| &import.named))
        })
    }
}

/// Calls `visit` for every token, with the one after it.
pub(super) fn each_token(
    tokens: TokenStream,
    visit: &mut impl FnMut(&TokenTree, Option<&TokenTree>),
) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        visit(&token, tokens.peek());
        if let TokenTree::Group(group) = token {
            each_token(group.stream(), visit);
        }
    }
}

struct Reader {
    modules: Vec<Module>,
    /// The modules around what is being read, as indices; never empty.
    open: Vec<usize>,
    test: bool,
}

impl Reader {
    fn module(&mut self) -> &mut Module {
        let innermost = self.open.last().copied().unwrap_or(0);
        &mut self.modules[innermost]
    }

    /// Reads an item that may be compiled for tests only.
    fn item(&mut self, attributes: &[syn::Attribute], read: impl FnOnce(&mut Self)) {
        let before = self.test;
        self.test |= attributes.iter().any(is_for_tests);
        read(self);
        self.test = before;
    }

    fn define(&mut self, name: &syn::Ident) {
        self.module().items.insert(name.to_string());
    }

    fn name(&mut self, segments: Vec<String>, line: usize) {
        let test = self.test;
        self.module().paths.push(Named { segments, line, imported: false, test });
    }

    fn import(&mut self, before: &[String], tree: &syn::UseTree, reexport: bool) {
        let (last, alias, span) = match tree {
            syn::UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                return self.import(&before, &path.tree, reexport);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(before, tree, reexport));
            }
            syn::UseTree::Name(name) => (Some(&name.ident), Some(&name.ident), name.ident.span()),
            syn::UseTree::Rename(rename) => {
                (Some(&rename.ident), Some(&rename.rename), rename.ident.span())
            }
            syn::UseTree::Glob(glob) => (None, None, glob.star_token.spans[0]),
        };
        let (last, alias) = (last.map(ToString::to_string), alias.map(ToString::to_string));
        // `use a::{self}` names `a`.
        let itself = last.as_deref() == Some("self") && !before.is_empty();
        let alias = if itself && alias == last { before.last().cloned() } else { alias };
        let last = if itself { None } else { last };
        let segments = before.iter().cloned().chain(last).collect();
        let named = Named { segments, line: span.start().line, imported: true, test: self.test };
        self.module().imports.push(Import { named, alias, reexport });
    }

    /// The paths among tokens that are not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut line) = (Vec::new(), 0);
        // What the last token was: `:`, a second `:`, a `.`, a `$`, or something else.
        let (mut colons, mut field, mut variable) = (0, false, false);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.finish(&mut path, line);
                        line = name.span().start().line;
                    }
                    // `$crate` and the variables of a macro mean something where it is called.
                    if variable {
                        path.push(format!("${name}"));
                    } else if !field {
                        path.push(name.to_string());
                    }
                    (colons, field, variable) = (0, false, false);
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.finish(&mut path, line);
                    colons = 0;
                    field = matches!(&other, TokenTree::Punct(mark) if mark.as_char() == '.');
                    variable = matches!(&other, TokenTree::Punct(mark) if mark.as_char() == '$');
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.finish(&mut path, line);
    }

    fn finish(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.name(std::mem::take(path), line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.item(&item.attrs, |reader| {
            let child = Child {
                name: item.ident.to_string(),
                line: item.ident.span().start().line,
                public: matches!(item.vis, syn::Visibility::Public(_)),
                path: item.attrs.iter().find_map(path_attribute),
                test: reader.test,
            };
            if item.content.is_none() {
                return reader.module().children.push(child);
            }
            let inline = [&reader.module().inline[..], std::slice::from_ref(&child.name)].concat();
            reader.module().children.push(child);
            reader.open.push(reader.modules.len());
            reader.modules.push(Module { inline, ..Module::default() });
            visit::visit_item_mod(reader, item);
            reader.open.pop();
        });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.item(&item.attrs, |reader| reader.import(&[], &item.tree, reexport));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.item(&item.attrs, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.item(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.define(&item.sig.ident);
        self.item(&item.attrs, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_struct(reader, item));
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_enum(reader, item));
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_union(reader, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_type(reader, item));
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_const(reader, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.define(&item.ident);
        self.item(&item.attrs, |reader| visit::visit_item_static(reader, item));
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        item.ident.iter().for_each(|name| self.define(name));
        self.item(&item.attrs, |reader| visit::visit_item_macro(reader, item));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| &segment.ident).collect();
        if let Some(first) = segments.first() {
            let line = first.span().start().line;
            self.name(segments.into_iter().map(ToString::to_string).collect(), line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        self.visit_path(attribute.path());
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

/// `#[test]` and `#[cfg(…)]` with `test` in it, but not under `not`.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    fn asks_for_test(tokens: TokenStream) -> bool {
        let mut negated = false;
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(name) => {
                negated = name == "not";
                name == "test"
            }
            TokenTree::Group(group) => !negated && asks_for_test(group.stream()),
            _ => false,
        })
    }
    match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && asks_for_test(list.tokens.clone()),
        syn::Meta::NameValue(_) => false,
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(value) = &pair.value else { return None };
    let syn::Lit::Str(text) = &value.lit else { return None };
    pair.path.is_ident("path").then(|| text.value())
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn paths(text: &str) -> Vec<(String, usize, bool)> {
        let source = Source::parse("x.rs", text).unwrap();
        let all = source.paths().map(|named| (named.segments.join("::"), named.line, named.test));
        all.collect()
    }

    fn named(text: &str) -> Vec<String> {
        paths(text).into_iter().map(|(path, ..)| path).collect()
    }

    #[test]
    fn imports_are_flattened_and_keep_their_lines() {
        let text = "use a::{b, c::{self, d as e}};\npub(crate) use f::*;\n";
        let source = Source::parse("x.rs", text).unwrap();
        let imports: Vec<_> = source.modules[0]
            .imports
            .iter()
            .map(|import| {
                let path = import.named.segments.join("::");
                (path, import.alias.as_deref().unwrap_or("*"), import.named.line, import.reexport)
            })
            .collect();
        let import = |path: &str, alias, line, reexport| (path.to_owned(), alias, line, reexport);
        assert_eq!(
            imports,
            [
                import("a::b", "b", 1, false),
                import("a::c", "c", 1, false),
                import("a::c::d", "e", 1, false),
                import("f", "*", 2, true),
            ]
        );
    }

    #[test]
    fn paths_are_found_in_types_expressions_macros_and_attributes() {
        assert_eq!(named("fn f(x: a::B) { c::d(x.e) }"), ["a::B", "c::d", "x"]);
        assert_eq!(
            named("const X: u8 = m!(a::b, self.c, \"d::e\", f(g::h));").last().unwrap(),
            "g::h"
        );
        assert_eq!(
            named("macro_rules! m { ($e:expr) => { $crate::a::b($e, c::d) } }"),
            ["macro_rules", "$e", "expr", "$crate::a::b", "$e", "c::d"]
        );
        assert!(named("#[derive(a::B)]\nstruct S;").contains(&"a::B".to_owned()));
    }

    #[test]
    fn what_is_compiled_for_tests_is_marked() {
        for text in ["#[cfg(test)]\nmod tests { use a::b; }", "#[cfg(all(test, unix))]\nuse a::b;"]
        {
            let found = paths(text).into_iter().find(|(path, ..)| path == "a::b").unwrap();
            assert!(found.2, "{text}");
        }
        let found = paths("#[cfg(not(test))]\nuse a::b;");
        assert!(found.iter().all(|(.., test)| !test), "{found:?}");
    }

    #[test]
    fn inline_modules_are_modules_of_their_own() {
        let text = "mod a { fn f() {} mod b { struct S; } }\npub mod sys;\nstruct T;";
        let source = Source::parse("x.rs", text).unwrap();
        let inline: Vec<_> = source.modules.iter().map(|module| module.inline.join("::")).collect();
        assert_eq!(inline, ["", "a", "a::b"]);
        let [file, a, b] = &source.modules[..] else { panic!("{source:?}") };
        assert!(file.items.contains("T") && a.items.contains("f") && b.items.contains("S"));
        let children: Vec<_> = file.children.iter().map(|c| (&*c.name, c.public)).collect();
        assert_eq!(children, [("a", false), ("sys", true)]);
    }
}
