//! What the files said, what they say now, and what stays in effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use penstock_core::ResourceRef;
use penstock_translate::{Change, resources::Object};
use serde_json::Value;

use super::{
    Reading,
    document::Outcome,
    module::Module,
    parsed::Parsed,
    problem::{InvalidDocument, Position, Problem},
    watch::Interest,
};

/// Which files of a directory are read. What editors leave beside them has other names.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

#[derive(Debug)]
pub(super) struct Store {
    roots: Vec<PathBuf>,
    /// What was read of each file, so that one that did not change is not parsed again.
    files: BTreeMap<PathBuf, Parsed>,
    /// What is in effect.
    good: BTreeMap<ResourceRef, Good>,
}

/// A version of a resource that is in effect.
#[derive(Debug, Clone, PartialEq)]
struct Good {
    file: Arc<PathBuf>,
    line: usize,
    /// As it stands in the file.
    value: Arc<Value>,
    /// The module, for plugins that come from a file.
    module: Option<Module>,
    /// Counts versions that differ in more than metadata, as the API server does.
    generation: i64,
}

/// One reading on its way.
#[derive(Default)]
struct Pass {
    good: BTreeMap<ResourceRef, Good>,
    problems: Vec<Problem>,
    /// Resources whose documents are broken.
    broken: BTreeSet<ResourceRef>,
    /// Files and directories of which a part cannot be told: nothing that came from there is deleted.
    opaque: Vec<Arc<PathBuf>>,
}

impl Store {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, files: BTreeMap::new(), good: BTreeMap::new() }
    }

    /// Whatever could change what the next reading finds.
    pub(super) fn interest(&self) -> Interest {
        let mut interest = Interest::default();
        for root in &self.roots {
            interest.add(root);
            for file in list(root).unwrap_or_default() {
                interest.add(&file);
            }
        }
        for module in self.good.values().filter_map(|good| good.module.as_ref()) {
            interest.add(module.path());
        }
        interest
    }

    pub(super) fn place(&self, resource: &ResourceRef) -> Option<(&Path, usize)> {
        self.good.get(resource).map(|good| (good.file.as_path(), good.line))
    }

    pub(super) fn read(&mut self) -> Reading {
        let mut pass = Pass::default();
        let mut files = BTreeMap::new();
        for root in &self.roots {
            match list(root) {
                Ok(found) => found.into_iter().for_each(|file| self.read_file(file, &mut files, &mut pass)),
                Err(error) => pass.unreadable(Arc::new(root.clone()), &error),
            }
        }
        self.files = files;
        self.keep_last_good(&mut pass);
        pass.problems.sort_by(Problem::by_place);
        let changes = self.compare(&pass.good);
        self.good = pass.good;
        Reading { changes, problems: pass.problems }
    }

    fn read_file(&self, path: PathBuf, files: &mut BTreeMap<PathBuf, Parsed>, pass: &mut Pass) {
        // Named twice on the command line: once is enough.
        if files.contains_key(&path) {
            return;
        }
        let file = Arc::new(path);
        let bytes = match fs::read(&*file) {
            Ok(bytes) => bytes,
            Err(error) => return pass.unreadable(file, &error),
        };
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => return pass.unreadable(file, &io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let parsed = Parsed::read(&file, text, self.files.get(&*file));
        for (line, outcome) in parsed.documents() {
            self.take(&file, line, outcome, pass);
        }
        files.insert(file.to_path_buf(), parsed);
    }

    fn take(&self, file: &Arc<PathBuf>, line: usize, outcome: &Outcome, pass: &mut Pass) {
        match outcome {
            Outcome::Good(reference, value) => match pass.good.get(reference) {
                Some(first) => {
                    let kind = InvalidDocument::Duplicate { file: Arc::clone(&first.file), line: first.line };
                    let position = Some(Position { line, column: 1 });
                    let (file, resource, field) = (Arc::clone(file), Some(reference.clone()), String::new());
                    pass.problems.push(Problem { file, position, resource, field, kind });
                }
                None => {
                    let good = self.version(file, line, reference, value);
                    pass.good.insert(reference.clone(), good);
                }
            },
            Outcome::Broken(reference, problems) => {
                pass.problems.extend(problems.iter().cloned());
                pass.broken.insert(reference.clone());
            }
            Outcome::Unknown(problem) => {
                pass.problems.push(problem.clone());
                pass.opaque.push(Arc::clone(file));
            }
        }
    }

    fn version(&self, file: &Arc<PathBuf>, line: usize, reference: &ResourceRef, value: &Arc<Value>) -> Good {
        let module = Module::of(file, reference, value);
        let generation = match self.good.get(reference) {
            Some(before) if wants_the_same(&before.value, value) && before.module == module => before.generation,
            Some(before) => before.generation + 1,
            None => 1,
        };
        Good { file: Arc::clone(file), line, value: Arc::clone(value), module, generation }
    }

    /// What is broken, or might stand in what cannot be read, stays as it was.
    fn keep_last_good(&self, pass: &mut Pass) {
        for (reference, good) in &self.good {
            let from_opaque = || pass.opaque.iter().any(|place| good.file.starts_with(&**place));
            if !pass.good.contains_key(reference) && (pass.broken.contains(reference) || from_opaque()) {
                pass.good.insert(reference.clone(), good.clone());
            }
        }
    }

    fn compare(&self, now: &BTreeMap<ResourceRef, Good>) -> Vec<Change> {
        let gone = self.good.keys().filter(|reference| !now.contains_key(*reference));
        let mut changes: Vec<_> = gone.map(|reference| Change::Delete(reference.clone())).collect();
        let before = self.modules(&self.good);
        let modules = self.modules(now);
        changes.extend(
            before
                .keys()
                .filter(|path| !modules.contains_key(*path))
                .map(|path| Change::File(path.to_path_buf(), None)),
        );
        changes.extend(
            modules
                .iter()
                .filter(|(path, stamp)| before.get(*path) != Some(stamp))
                .map(|(path, stamp)| Change::File(path.to_path_buf(), stamp.cloned())),
        );
        for (reference, good) in now {
            match self.good.get(reference) {
                Some(before) if before.says_the_same(good) => {}
                _ => changes.push(Change::Upsert(good.object(reference))),
            }
        }
        changes
    }

    fn modules<'g>(&self, good: &'g BTreeMap<ResourceRef, Good>) -> BTreeMap<&'g Path, Option<&'g Arc<str>>> {
        good.values().filter_map(|good| good.module.as_ref()).map(|module| (module.path(), module.stamp())).collect()
    }
}

impl Good {
    fn says_the_same(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value) && self.module == other.module
    }

    /// The resource with its generation, and with the path of its module made absolute.
    fn object(&self, reference: &ResourceRef) -> Object {
        let mut value = Value::clone(&self.value);
        value["metadata"]["generation"] = self.generation.into();
        if let Some(module) = &self.module {
            module.resolve(&mut value);
        }
        let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        Object::parse(&api_version, &reference.kind.to_string(), value)
            .expect("it was parsed when the document was read, and generation and path are of the same type")
    }
}

impl Pass {
    fn unreadable(&mut self, file: Arc<PathBuf>, error: &io::Error) {
        self.opaque.push(Arc::clone(&file));
        let kind = InvalidDocument::Unreadable(error.to_string());
        self.problems.push(Problem { file, position: None, resource: None, field: String::new(), kind });
    }
}

/// Whether two versions of a resource differ in nothing but metadata.
fn wants_the_same(one: &Arc<Value>, other: &Arc<Value>) -> bool {
    let wants = |value: &'_ Value| -> Option<BTreeMap<String, Value>> {
        let fields = value.as_object()?.iter().filter(|(name, _)| *name != "metadata" && *name != "status");
        Some(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    Arc::ptr_eq(one, other) || wants(one) == wants(other)
}

/// The files that a path stands for, in the order of their names.
fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(root)?.is_dir() {
        return Ok(vec![root.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str());
        // A link whose target is missing is listed, so that it is reported.
        if !hidden && extension.is_some_and(|it| EXTENSIONS.contains(&it)) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
