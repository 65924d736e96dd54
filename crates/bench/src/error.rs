//! What can keep a run from being made.

use std::io;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A plan that can't be carried out.
    #[error("{0}")]
    Plan(String),
    /// Something of the operating system failed.
    #[error("{what}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why it wasn't.
        #[source]
        source: io::Error,
    },
    /// TLS can't be set up.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// Clients that could not connect or subscribe in time.
    #[error("{0}")]
    NotReady(String),
    /// A process of the run that ended early.
    #[error("a process of the run ended: {0}")]
    Worker(String),
}

impl BenchError {
    /// Returns a function that says what failed.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
