//! What can be wrong with a document, and where.

use std::fmt;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not YAML, or not the YAML of this kind of document.
    #[error("{message}")]
    Yaml {
        /// One-based line in the text that was given.
        line: Option<usize>,
        /// Where in the document: `spec.webhook`.
        path: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// A field has a value that is not allowed.
    #[error("{path}: {message}")]
    Field {
        /// Where in the document: `spec.expr`.
        path: String,
        /// What is wrong; for an expression with `line:col` and a caret below.
        message: String,
    },
    /// A template could not be expanded.
    #[error("{0}")]
    Template(String),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> model::Kind {
        model::Kind::Invalid
    }

    pub(crate) fn field(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Error::Field { path: path.into(), message: message.to_string() }
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that is loaded and will not do all it should.
    Warning,
    /// Something that is not loaded.
    Error,
}

/// Something that a person should mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// The file, or the folder where that cannot be read.
    pub file: String,
    /// One-based number of the document in the file.
    pub document: Option<usize>,
    /// One-based line in the file.
    pub line: Option<usize>,
    /// One-based column in that line, in characters, where the message does not tell a place of its own.
    pub column: Option<usize>,
    /// Where in the document: `spec.expr`.
    pub path: Option<String>,
    /// Name of the rule or channel, where it is known.
    pub name: Option<String>,
    /// What is wrong; may have several lines.
    pub message: String,
}

/// `rules/a.yaml:12: document 2: HighLatency: spec.expr: 1:5: parse error: …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        for part in [&self.name, &self.path].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.message)
    }
}
