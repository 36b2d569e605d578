//! What can go wrong in a benchmark run, and where.

use crate::engine::Engine;

/// The result of harness calls.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failed run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A database under test returned an error or a wrong answer.
    #[error("{engine} failed to {action}: {source}")]
    Engine {
        /// Which database.
        engine: &'static str,
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A library of lists returned an error or a wrong answer.
    #[error("{engine} failed in {workload}: {source}")]
    Library {
        /// Which library.
        engine: &'static str,
        /// In which workload.
        workload: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The harness could not use a file or a process.
    #[error("could not {action}: {source}")]
    Io {
        /// What the harness was doing.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A name on the command line that this build does not know.
    #[error("{0}")]
    Usage(String),
    /// The process that ran one workload failed.
    #[error("{workload} on {engine} failed: {reason}")]
    Child {
        /// Which workload.
        workload: String,
        /// Which database.
        engine: String,
        /// Its last words.
        reason: String,
    },
}

impl Error {
    /// What the database of a soak said, or what was wrong with its answer.
    pub(crate) fn soak(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Engine {
            engine: "siltstone",
            action: "go on under load",
            source: source.into(),
        }
    }

    /// An error of the database under test.
    pub(crate) fn engine<E: Engine>(
        action: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        Self::Engine {
            engine: E::NAME,
            action,
            source,
        }
    }

    /// An error of the harness.
    pub(crate) fn io(action: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }
}
