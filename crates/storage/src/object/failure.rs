//! What an object store's error means: which typed error it becomes, whether the request may have
//! been carried out all the same, and whether asking again can help. Messages are composed from the
//! status, the store's error code and the transport's reason; URLs, headers and bodies, which can
//! carry credentials, never enter them.

use crate::error::Error;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::io;

/// The longest reason kept from an error that is not of a known shape, in characters.
const MAX_REASON: usize = 200;

/// Operations for which "not found" means the bucket, not the blob.
const WRITES: [&str; 4] = ["put", "put_if_absent", "create", "list"];

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The store answered that nothing is under that name.
    Missing,
    /// The store answered that the name is taken.
    Taken,
    /// The store refused, and will refuse again: permission, a bad name, an unknown operation.
    Refused,
    /// The store was not reached.
    Unreachable,
    /// The store stayed overloaded or broken through all the client's own repeats. It may or may
    /// not have been carried out.
    Busy,
    /// The connection broke. It may or may not have been carried out, and trying again may help.
    Uncertain,
}

/// Reads the verdict from an error.
pub(super) fn verdict(error: &object_store::Error) -> Verdict {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Verdict::Missing,
        E::AlreadyExists { .. } | E::Precondition { .. } => Verdict::Taken,
        E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::InvalidPath { .. }
        | E::UnknownConfigurationKey { .. } => Verdict::Refused,
        _ => match (status(error), transport(error)) {
            (Some(400..=407 | 410..=428 | 430..=499), _) => Verdict::Refused,
            (Some(_), _) => Verdict::Busy,
            (None, Some(HttpErrorKind::Connect)) => Verdict::Unreachable,
            _ => Verdict::Uncertain,
        },
    }
}

/// Turns an error into the crate's own, with the blob's name and what was tried.
pub(super) fn typed(
    error: &object_store::Error,
    name: &str,
    operation: &'static str,
    store: &str,
) -> Error {
    use object_store::Error as E;
    let missing = matches!(error, E::NotFound { .. }) || status(error) == Some(404);
    if missing && WRITES.contains(&operation) {
        return Error::Io {
            name: name.into(),
            operation,
            kind: io::ErrorKind::NotFound,
            message: format!("{store}: there is no such bucket or container"),
        };
    }
    if missing {
        return Error::NotFound {
            name: name.into(),
            store: store.into(),
        };
    }
    let kind = match error {
        E::AlreadyExists { .. } | E::Precondition { .. } => io::ErrorKind::AlreadyExists,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        E::InvalidPath { .. } => io::ErrorKind::InvalidInput,
        E::NotSupported { .. } | E::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => kind_of(status(error), transport(error)),
    };
    Error::Io {
        name: name.into(),
        operation,
        kind,
        message: format!("{store}: {}", reason(error)),
    }
}

fn kind_of(status: Option<u16>, transport: Option<HttpErrorKind>) -> io::ErrorKind {
    match (status, transport) {
        (Some(408 | 504), _) | (_, Some(HttpErrorKind::Timeout)) => io::ErrorKind::TimedOut,
        (Some(401 | 403), _) => io::ErrorKind::PermissionDenied,
        (Some(429 | 503), _) => io::ErrorKind::ResourceBusy,
        (Some(400..=499), _) => io::ErrorKind::InvalidInput,
        (_, Some(HttpErrorKind::Connect)) => io::ErrorKind::ConnectionRefused,
        (_, Some(HttpErrorKind::Request | HttpErrorKind::Interrupted)) => {
            io::ErrorKind::ConnectionReset
        }
        _ => io::ErrorKind::Other,
    }
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn transport(error: &object_store::Error) -> Option<HttpErrorKind> {
    chain(error)
        .find_map(|cause| cause.downcast_ref::<HttpError>())
        .map(HttpError::kind)
}

/// The HTTP status, which the object store crate tells in words only.
pub(super) fn status(error: &object_store::Error) -> Option<u16> {
    let text = chain(error).last()?.to_string();
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// Why it failed, in words that carry no secret.
fn reason(error: &object_store::Error) -> String {
    let last = chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    if let Some(status) = status(error) {
        let code = last
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"))
            .map(|(code, _)| code)
            .filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
        return match code {
            Some(code) => format!("status {status} ({code})"),
            None => format!("status {status}"),
        };
    }
    // Whatever follows a question mark could be a signed query.
    let safe = last.split('?').next().unwrap_or_default();
    safe.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: text.to_string().into(),
        }
    }

    #[test]
    fn a_status_is_told_with_the_stores_code_and_without_its_body() {
        let error = generic(
            "Server returned non-2xx status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch\
             </Code><StringToSign>AKIDSECRET</StringToSign></Error>",
        );
        let message = typed(&error, "sst/1", "get", "s3://b").to_string();
        assert!(
            message.contains("status 403 (SignatureDoesNotMatch)"),
            "{message}"
        );
        assert!(!message.contains("AKIDSECRET"), "{message}");
        assert_eq!(verdict(&error), Verdict::Refused);
    }

    #[test]
    fn a_signed_query_never_enters_a_message() {
        let message = typed(
            &generic("GET https://x/y?sig=topsecret failed"),
            "n",
            "get",
            "az://c",
        )
        .to_string();
        assert!(!message.contains("topsecret"), "{message}");
    }

    #[test]
    fn a_server_error_leaves_the_outcome_open() {
        let error = generic("Server returned non-2xx status code: 500 Internal Server Error: ");
        assert_eq!(verdict(&error), Verdict::Busy);
        assert_eq!(verdict(&generic("connection closed")), Verdict::Uncertain);
    }
}
