//! What was read of a file, so that only the documents that changed are parsed again: a file may hold thousands.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{
    document::{self, Document, Outcome},
    yaml::{self, Piece},
};

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pieces: Vec<ParsedPiece>,
}

#[derive(Debug, Clone)]
struct ParsedPiece {
    digest: Digest,
    first_line: usize,
    documents: Arc<Vec<Document>>,
}

type Digest = [u8; 32];

impl Parsed {
    /// Read a file; `before` lends what did not change.
    pub(super) fn read(file: &Arc<PathBuf>, text: &str, before: Option<&Self>) -> Self {
        let known: HashMap<_, _> =
            before.iter().flat_map(|before| &before.pieces).map(|piece| (piece.digest, piece)).collect();
        let pieces = yaml::split(text).into_iter().map(|piece| {
            let digest = Sha256::digest(piece.text).into();
            match known.get(&digest) {
                Some(known) if known.fits(&piece) => {
                    ParsedPiece { first_line: piece.first_line, ..ParsedPiece::clone(known) }
                }
                _ => {
                    let documents = Arc::new(document::read(file, &piece));
                    ParsedPiece { digest, first_line: piece.first_line, documents }
                }
            }
        });
        Self { pieces: pieces.collect() }
    }

    /// Every document with the line of the file on which it begins.
    pub(super) fn documents(&self) -> impl Iterator<Item = (usize, &Outcome)> {
        self.pieces.iter().flat_map(|piece| {
            piece.documents.iter().map(|document| (piece.first_line + document.line, &document.outcome))
        })
    }
}

impl ParsedPiece {
    /// Whether it holds for the same text at another place too: problems name lines of the file.
    fn fits(&self, piece: &Piece<'_>) -> bool {
        let good = |document: &Document| matches!(document.outcome, Outcome::Good(..));
        self.first_line == piece.first_line || self.documents.iter().all(good)
    }
}
