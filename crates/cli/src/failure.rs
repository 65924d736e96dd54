//! How a command ends other than well, and its exit code.

use std::fmt;

use midge_store::StoreError;

/// The exit code of what was not found or is refused, and of a denial.
pub(crate) const NO: u8 = 1;
/// The exit code of wrong usage and bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// The exit code of a store that can't be used.
pub(crate) const NO_STORE: u8 = 3;
/// The exit code of a server that can't start, or has ended by an error.
pub(crate) const NO_SERVER: u8 = 4;

/// What a command that ran to its end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or allowed.
    Yes,
    /// Denied.
    No,
    /// What was to be checked is wrong.
    Wrong,
}

/// A command that could not do what it was asked, because of what the store holds.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Returns the error of a command that the store's content doesn't allow: exit code 1.
pub(crate) fn refused(reason: impl Into<String>) -> anyhow::Error {
    Refused(reason.into()).into()
}

/// A server that can't start, or has ended by an error.
#[derive(Debug)]
struct CannotServe(anyhow::Error);

impl fmt::Display for CannotServe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for CannotServe {}

/// Returns the error of a server that can't start, or has ended by `error`: exit code 4.
pub(crate) fn cannot_serve(error: impl Into<anyhow::Error>) -> anyhow::Error {
    CannotServe(error.into()).into()
}

/// Returns the exit code that tells scripts what kind of error it was.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Refused>().is_some() {
        NO
    } else if error.downcast_ref::<StoreError>().is_some() {
        NO_STORE
    } else if error.downcast_ref::<CannotServe>().is_some() {
        NO_SERVER
    } else {
        BAD_INPUT
    }
}

/// Returns whether nobody reads our output any more, as with `midge user list | head`: no error of ours.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
