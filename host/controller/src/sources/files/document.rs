//! One document: from marked YAML to a resource, or to everything that is wrong with it.

use std::{path::PathBuf, sync::Arc};

use penstock_core::{Kind, ResourceRef};
use penstock_translate::{
    nearest::nearest,
    resources::{InvalidObject, Object},
};
use saphyr::MarkedYaml;
use serde_json::Value;

use super::{
    problem::{InvalidDocument, Position, Problem},
    schema,
    yaml::{self, Piece},
};

/// The namespace of namespaced resources that name none, as `kubectl` has it.
const DEFAULT_NAMESPACE: &str = "default";

/// A document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// The line on which it begins, from the first line of its piece.
    pub(super) line: usize,
    /// What it is good for.
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// A resource, as JSON that `Object::parse` takes.
    Good(ResourceRef, Arc<Value>),
    /// A resource of this name is meant, but cannot be used.
    Broken(ResourceRef, Vec<Problem>),
    /// It cannot even be told which resource is meant.
    Unknown(Problem),
}

/// The documents of a piece: one, but for lists and comments.
pub(super) fn read(file: &Arc<PathBuf>, piece: &Piece<'_>) -> Vec<Document> {
    let mut documents = Vec::new();
    match yaml::parse(piece) {
        Ok(Some(root)) => read_root(file, piece, &root, &mut documents),
        Ok(None) => {}
        Err((position, kind)) => {
            let (file, position) = (Arc::clone(file), Some(position));
            let problem = Problem { file, position, resource: None, field: String::new(), kind };
            documents.push(Document { line: 0, outcome: Outcome::Unknown(problem) });
        }
    }
    documents
}

/// A `List`, as `kubectl get -o yaml` writes it, is as many documents as it has items.
fn read_root(file: &Arc<PathBuf>, piece: &Piece<'_>, root: &MarkedYaml<'_>, documents: &mut Vec<Document>) {
    let is_list = text(root, "kind") == Some("List");
    match yaml::get(root, "items").and_then(|items| items.data.as_vec()) {
        Some(items) if is_list => documents.extend(items.iter().map(|item| Reader::new(file, piece, item).read())),
        _ => documents.push(Reader::new(file, piece, root).read()),
    }
}

/// Reads one document, which is a whole YAML document or an item of a list.
struct Reader<'r, 'y> {
    file: &'r Arc<PathBuf>,
    first_line: usize,
    root: &'r MarkedYaml<'y>,
}

impl<'r, 'y> Reader<'r, 'y> {
    fn new(file: &'r Arc<PathBuf>, piece: &Piece<'_>, root: &'r MarkedYaml<'y>) -> Self {
        Self { file, first_line: piece.first_line, root }
    }

    fn read(&self) -> Document {
        let outcome = match self.identity() {
            Ok((kind, api_version, reference)) => self.resource(kind, api_version, reference),
            Err(problem) => Outcome::Unknown(*problem),
        };
        Document { line: self.position(self.root).line - self.first_line, outcome }
    }

    /// Which resource this is, even if the rest of it is broken: so its last good version can stay.
    fn identity(&self) -> Result<(Kind, &'r str, ResourceRef), Box<Problem>> {
        if self.root.data.as_mapping().is_none() {
            let found = yaml::found(self.root);
            return Err(self.fault(self.root, "", InvalidDocument::NotAResource { found }));
        }
        let kind = self.kind(self.text(self.root, "", "kind")?)?;
        let api_version = self.text(self.root, "", "apiVersion")?;
        let Some(metadata) = yaml::get(self.root, "metadata") else {
            return Err(self.fault(self.root, "", missing("metadata")));
        };
        let name = self.text(metadata, "metadata", "name")?;
        let namespace = match kind {
            Kind::GatewayClass | Kind::Namespace => "",
            _ => text(metadata, "namespace").unwrap_or(DEFAULT_NAMESPACE),
        };
        Ok((kind, api_version, ResourceRef::new(kind, namespace, name)))
    }

    fn text(&self, parent: &'r MarkedYaml<'y>, path: &str, name: &str) -> Result<&'r str, Box<Problem>> {
        let Some(node) = yaml::get(parent, name) else { return Err(self.fault(parent, path, missing(name))) };
        node.data.as_str().ok_or_else(|| {
            let (expected, found) = ("a string".to_owned(), yaml::found(node));
            let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            self.fault(node, &field, InvalidDocument::WrongType { expected, found })
        })
    }

    fn kind(&self, written: &str) -> Result<Kind, Box<Problem>> {
        let known = Object::KINDS.iter().copied().find(|kind| kind.to_string() == written);
        known.ok_or_else(|| {
            let known: Vec<String> = Object::KINDS.iter().map(ToString::to_string).collect();
            let nearest = nearest(written, known.iter().map(String::as_str)).map(str::to_owned);
            let node = yaml::get(self.root, "kind").unwrap_or(self.root);
            self.fault(node, "kind", InvalidDocument::UnknownKind { kind: written.to_owned(), nearest, known })
        })
    }

    fn resource(&self, kind: Kind, api_version: &str, reference: ResourceRef) -> Outcome {
        let (value, faults) = schema::check(self.root, self.first_line, Object::schema(kind));
        let problem = |position, field, kind| Problem {
            file: Arc::clone(self.file),
            position: Some(position),
            resource: Some(reference.clone()),
            field,
            kind,
        };
        let invalid = match Object::parse(api_version, &kind.to_string(), value.clone()) {
            Ok(_) => None,
            Err(InvalidObject::ApiVersion { kind, found, expected }) => {
                let node = yaml::get(self.root, "apiVersion").unwrap_or(self.root);
                let kind = InvalidDocument::UnsupportedApiVersion { kind, found, expected };
                let problem = problem(self.position(node), "apiVersion".to_owned(), kind);
                return Outcome::Broken(reference, vec![problem]);
            }
            Err(InvalidObject::Field { path, message }) => {
                let node = yaml::find(self.root, &path);
                Some(problem(self.position(node), path, InvalidDocument::InvalidValue(message)))
            }
            Err(error @ InvalidObject::UnknownKind { .. }) => {
                let kind = InvalidDocument::InvalidValue(error.to_string());
                Some(problem(self.position(self.root), "kind".to_owned(), kind))
            }
        };
        let mut problems: Vec<_> =
            faults.into_iter().map(|fault| problem(fault.position, fault.field, fault.kind)).collect();
        // What the schema finds is said better than what the type finds, and the type finds only one thing.
        if problems.is_empty() {
            problems.extend(invalid);
        }
        if problems.is_empty() {
            Outcome::Good(reference, Arc::new(value))
        } else {
            Outcome::Broken(reference, problems)
        }
    }

    fn position(&self, node: &MarkedYaml<'_>) -> Position {
        yaml::position(node, self.first_line)
    }

    fn fault(&self, node: &MarkedYaml<'_>, field: &str, kind: InvalidDocument) -> Box<Problem> {
        let (file, position) = (Arc::clone(self.file), Some(self.position(node)));
        Box::new(Problem { file, position, resource: None, field: field.to_owned(), kind })
    }
}

fn text<'n>(node: &'n MarkedYaml<'_>, name: &str) -> Option<&'n str> {
    yaml::get(node, name)?.data.as_str()
}

fn missing(name: &str) -> InvalidDocument {
    InvalidDocument::MissingField { name: name.to_owned() }
}
