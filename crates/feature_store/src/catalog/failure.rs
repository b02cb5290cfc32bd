//! What a failure of a catalog or of its storage means for who asked.

use std::error::Error as StdError;

use iceberg::{Error, ErrorKind};
use serde_json::Value;
use web::Code;

/// `ENOSPC` of Linux.
const NO_SPACE: i32 = 28;
/// `SQLITE_FULL`, and `disk_full` of PostgreSQL.
const FULL_CODES: [&str; 2] = ["13", "53100"];

/// What another system answered, when it did.
struct Answer {
    status: u16,
    said: String,
}

impl Answer {
    /// The library keeps an answer only as the text of its error: `context: { status: 403
    /// Forbidden, headers: …, json: … } => …`, or `code` where a token was asked for.
    fn of(error: &Error) -> Option<Self> {
        let text = error.to_string();
        let (_, context) = text.split_once(", context: { ")?;
        let number = |name: &str| {
            let (_, rest) = context.split_once(name)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let status = number("status: ").or_else(|| number("code: "))?;
        let body = context.split_once("json: ").map(|(_, rest)| rest);
        let body = body.and_then(|rest| rest.rsplit_once(" } => "));
        let said = body.and_then(|(body, _)| said(body));
        let said = said.unwrap_or_else(|| error.message().to_owned());
        Some(Self { status, said })
    }
}

/// The message in a body: of Iceberg's protocol, of OAuth2, or of Amazon's services.
fn said(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let texts = [
        &body["error"]["message"],
        &body["error_description"],
        &body["error"],
        &body["message"],
        &body["Message"],
        &body["__type"],
    ];
    let mut texts = texts.into_iter().filter_map(Value::as_str);
    texts.next().map(str::to_owned)
}

/// The errors behind an error, itself first.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |this| (*this).source())
}

/// Whether the other system has no such thing, is in conflict, does not answer now, or answers
/// what cannot be used.
pub(crate) fn code_of(error: &Error) -> Code {
    match error.kind() {
        ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound => return Code::NotFound,
        ErrorKind::TableAlreadyExists
        | ErrorKind::NamespaceAlreadyExists
        | ErrorKind::CatalogCommitConflicts => return Code::Conflict,
        ErrorKind::FeatureUnsupported => return Code::NotImplemented,
        _ => {}
    }
    if is_full(error) {
        return Code::InsufficientStorage;
    }
    let busy = |answer: Answer| matches!(answer.status, 429 | 503 | 504);
    if Answer::of(error).is_some_and(busy) || causes(error).any(is_silence) {
        Code::Unavailable
    } else {
        Code::BadGateway
    }
}

/// Whether the disk has no room left; of local files the library says so only in words.
fn is_full(error: &Error) -> bool {
    let no_room = format!("(os error {NO_SPACE})");
    causes(error).any(|cause| match cause.downcast_ref() {
        Some(sqlx::Error::Database(failed)) => failed
            .code()
            .is_some_and(|code| FULL_CODES.contains(&&*code)),
        _ => cause.to_string().contains(&no_room),
    })
}

/// Whether no answer came at all.
fn is_silence(cause: &(dyn StdError + 'static)) -> bool {
    if let Some(failed) = cause.downcast_ref::<object_store::Error>() {
        // What is left of the kinds are answers.
        return matches!(failed, object_store::Error::Generic { .. });
    }
    if let Some(failed) = cause.downcast_ref::<reqwest::Error>() {
        return !failed.is_decode();
    }
    let sql = cause.downcast_ref::<sqlx::Error>();
    sql.is_some_and(|failed| {
        matches!(
            failed,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed
        )
    })
}

/// Whether the catalog does not take the token.
pub(super) fn is_unauthorized(error: &Error) -> bool {
    Answer::of(error).is_some_and(|answer| answer.status == 401)
}

/// The failure in words, with what the other system said.
pub(crate) fn explain(error: &Error) -> String {
    if let Some(Answer { status, said }) = Answer::of(error) {
        return format!("the catalog answers {status}: {said}");
    }
    let mut text = error.message().to_owned();
    for cause in causes(error).skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What to do next.
pub(crate) fn help(error: &Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::CatalogCommitConflicts {
        return Some("others write to the table at the same time; send it again");
    }
    if let Some(Answer { status, .. }) = Answer::of(error) {
        return matches!(status, 401 | 403).then_some(
            "check the catalog's section under [feature_store.catalogs]: token, credential and scope, or the AWS credentials, and what they are allowed",
        );
    }
    let missing = causes(error).any(|cause| {
        let stored = cause.downcast_ref::<object_store::Error>();
        let on_disk = cause.downcast_ref::<std::io::Error>();
        matches!(stored, Some(object_store::Error::NotFound { .. }))
            || on_disk.is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    });
    missing.then_some(
        "the table may have been dropped, or its old snapshots removed, while it was read: ask again; if it stays, the table has lost files",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: &str, body: &str) -> Error {
        Error::new(ErrorKind::Unexpected, "unexpected status code")
            .with_context("status", status)
            .with_context("headers", r#"{"date": "x"}"#)
            .with_context("json", body)
    }

    #[test]
    fn an_answer_is_told_with_its_status_and_its_words() {
        for (status, body, text, code) in [
            (
                "401 Unauthorized",
                r#"{"error": {"message": "token expired", "type": "NotAuthorizedException", "code": 401}}"#,
                "the catalog answers 401: token expired",
                Code::BadGateway,
            ),
            (
                "503 Service Unavailable",
                r#"{"error_description": "slow down"}"#,
                "the catalog answers 503: slow down",
                Code::Unavailable,
            ),
            (
                "500 Internal Server Error",
                "<html>",
                "the catalog answers 500: unexpected status code",
                Code::BadGateway,
            ),
        ] {
            let error = answered(status, body);
            assert_eq!((explain(&error).as_str(), code_of(&error)), (text, code));
        }
        assert!(help(&answered("403 Forbidden", "{}")).is_some());
    }

    #[test]
    fn a_full_disk_is_told_from_a_store_that_fails() {
        let cause = std::io::Error::from_raw_os_error(NO_SPACE);
        let words = format!("Failed to write file: {cause}");
        for error in [
            Error::new(ErrorKind::Unexpected, words),
            Error::new(ErrorKind::Unexpected, "no write").with_source(cause),
        ] {
            assert_eq!(code_of(&error), Code::InsufficientStorage);
        }
    }

    #[test]
    fn what_was_lost_says_that_it_may_have_been_dropped() {
        let lost = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::new(ErrorKind::Unexpected, "no file").with_source(lost);
        assert_eq!(code_of(&error), Code::BadGateway);
        assert!(help(&error).unwrap().contains("dropped"));
    }
}
