//! The modules of a crate, and the file that a path leads to.

use crate::tidy::syntax::{Child, Module, Named, Source};
use std::collections::BTreeMap;

/// How many imports a path may lead through.
const MOST_IMPORTS: usize = 32;

/// From one file to another: the line and the path that names it.
pub(super) type Edges<'a> = BTreeMap<(&'a str, &'a str), (usize, String)>;

/// A module by its names from the crate's root.
type Path = Vec<String>;

/// The modules of a crate.
pub(super) struct Tree<'a> {
    modules: BTreeMap<Path, (&'a str, &'a Module)>,
}

/// What a path names in this crate.
enum Target {
    Module(Path),
    /// Something that this module defines.
    Item(Path),
}

impl<'a> Tree<'a> {
    /// Follows the `mod` lines from the root. Modules whose file is missing are left out.
    pub(super) fn of(sources: &'a [Source], root: &str) -> Self {
        let mut tree = Self { modules: BTreeMap::new() };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        tree.add(sources, root, folder, Vec::new());
        tree
    }

    /// Adds a file as the module `path`; the files of its children are in `folder`.
    fn add(&mut self, sources: &'a [Source], file: &str, folder: &str, path: Path) {
        let Some(source) = sources.iter().find(|source| source.file == file) else { return };
        for module in &source.modules {
            let full = [&path[..], &module.inline[..]].concat();
            for child in module.children.iter().filter(|child| !child.test) {
                let inside = [&[folder.to_owned()][..], &module.inline[..]].concat().join("/");
                let below = [&full[..], std::slice::from_ref(&child.name)].concat();
                let (name, here) = (&child.name, file.rsplit_once('/').map_or("", |(f, _)| f));
                let own = format!("{inside}/{name}");
                match &child.path {
                    Some(other) => self.add(sources, &format!("{here}/{other}"), here, below),
                    None => {
                        self.add(sources, &format!("{own}.rs"), &own, below.clone());
                        self.add(sources, &format!("{own}/mod.rs"), &own, below);
                    }
                }
            }
            self.modules.insert(full, (&source.file, module));
        }
    }

    /// Every `mod` line, with its file.
    pub(super) fn children(&self) -> impl Iterator<Item = (&'a str, &'a Child)> {
        self.modules
            .values()
            .flat_map(|(file, module)| module.children.iter().map(move |child| (*file, child)))
    }

    /// Which file names what another one defines.
    pub(super) fn edges(&self) -> Edges<'a> {
        let mut edges = Edges::new();
        for (path, (file, module)) in &self.modules {
            let imports = module.imports.iter().filter(|import| !import.reexport);
            for named in imports.map(|import| &import.named).chain(&module.paths) {
                if named.test {
                    continue;
                }
                // Naming a module does not make the file depend on what is in it.
                if let Some(Target::Item(target)) = self.resolve(path, named)
                    && let Some((other, _)) = self.modules.get(&target)
                    && other != file
                {
                    edges
                        .entry((*file, *other))
                        .or_insert_with(|| (named.line, named.segments.join("::")));
                }
            }
        }
        edges
    }

    fn resolve(&self, from: &Path, named: &Named) -> Option<Target> {
        self.follow(from, &named.segments, MOST_IMPORTS)
    }

    fn follow(&self, from: &Path, segments: &[String], fuel: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let above = || from.split_last().map(|(_, above)| Target::Module(above.to_vec()));
        let mut target = match first.as_str() {
            "crate" => Target::Module(Vec::new()),
            "self" => Target::Module(from.clone()),
            "super" => above()?,
            name => self.member(from, name, fuel)?,
        };
        for name in rest {
            target = match target {
                Target::Module(path) if name == "super" => {
                    Target::Module(path.split_last()?.1.to_vec())
                }
                Target::Module(path) => self.member(&path, name, fuel)?,
                // A variant, a constant or a function of a type.
                Target::Item(_) => break,
            };
        }
        Some(target)
    }

    /// What a module calls by this name; `None` if it is nothing of this crate.
    fn member(&self, path: &Path, name: &str, fuel: usize) -> Option<Target> {
        let fuel = fuel.checked_sub(1)?;
        let (_, module) = self.modules.get(path)?;
        if module.items.contains(name) {
            return Some(Target::Item(path.clone()));
        }
        let named = module.imports.iter().filter(|import| import.alias.as_deref() == Some(name));
        let by_name = named
            // `pub use bitflags;` does not name itself.
            .filter(|import| import.named.segments != [name])
            .find_map(|import| self.follow(path, &import.named.segments, fuel));
        let child = [&path[..], &[name.to_owned()]].concat();
        let child = || self.modules.contains_key(&child).then(|| Target::Module(child.clone()));
        by_name.or_else(child).or_else(|| {
            let globs = module.imports.iter().filter(|import| import.alias.is_none());
            globs.filter_map(|import| self.follow(path, &import.named.segments, fuel)).find_map(
                |target| match target {
                    Target::Module(other) if other != *path => self.member(&other, name, fuel),
                    _ => None,
                },
            )
        })
    }
}
