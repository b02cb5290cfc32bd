//! A file as an answer: its headers, and the part of it that was asked for.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use object_store::GetRange;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::artifact::Artifacts;
use crate::error::Error;
use crate::location::Location;

/// What may stand unencoded in `filename*` (RFC 5987 `attr-char`).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Answers with a file, or the range of it that `request` asks for. A file is always an
/// attachment and never a page of this server: what a script logs must not run here
/// (CVE-2024-27132).
pub async fn download(
    artifacts: &Artifacts,
    file: &Location,
    request: &HeaderMap,
) -> Result<Response, Error> {
    let range = request
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(parse_range);
    let content = match artifacts.get_range(file, range.clone()).await {
        Ok(content) => content,
        Err(Error::ArtifactRange { size_bytes }) => {
            let size = format!("bytes */{size_bytes}");
            let headers = [(header::CONTENT_RANGE, size)];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
        Err(error) => return Err(error),
    };
    let mut response = Response::new(Body::from_stream(content.stream));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(content.range.end - content.range.start),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    describe(headers, file.name());
    if range.is_some() {
        let (first, last) = (content.range.start, content.range.end - 1);
        let span = format!("bytes {first}-{last}/{}", content.size_bytes);
        if let Ok(value) = HeaderValue::from_str(&span) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn describe(headers: &mut HeaderMap, name: &str) {
    let content_type = HeaderValue::from_static(content_type(name));
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    if let Ok(value) = HeaderValue::from_str(&disposition(name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
}

fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+ ".contains(c);
    if name.chars().all(plain) && !name.contains(' ') {
        return format!("attachment; filename={name}");
    }
    let ascii: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(name, ATTR_CHAR);
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

/// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` and `bytes=-COUNT`. Anything else, such as several
/// ranges, may be answered with the whole file (RFC 9110, 14.2).
fn parse_range(value: &str) -> Option<GetRange> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", count) => Some(GetRange::Suffix(count.parse().ok()?)),
        (first, "") => Some(GetRange::Offset(first.parse().ok()?)),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| GetRange::Bounded(first..last.saturating_add(1)))
        }
    }
}

/// The content type by the end of the name; MLflow shows its text types in its own viewer.
fn content_type(name: &str) -> &'static str {
    let end = name.rsplit_once('.').map_or(name, |(_, end)| end);
    match end.to_ascii_lowercase().as_str() {
        "txt" | "log" | "err" | "cfg" | "conf" | "cnf" | "cf" | "ini" | "properties" | "prop"
        | "hocon" | "toml" | "yaml" | "yml" | "xml" | "json" | "js" | "py" | "py3" | "csv"
        | "tsv" | "md" | "rst" | "mlmodel" | "mlproject" => "text/plain",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "mp3" => "audio/mpeg",
        "wav" => "audio/x-wav",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_writes_them() {
        assert_eq!(parse_range("bytes=0-9"), Some(GetRange::Bounded(0..10)));
        assert_eq!(parse_range("bytes=5-"), Some(GetRange::Offset(5)));
        assert_eq!(parse_range("bytes=-3"), Some(GetRange::Suffix(3)));
        for other in [
            "bytes=9-0",
            "bytes=0-1,5-6",
            "lines=1-2",
            "bytes=x-",
            "bytes=",
        ] {
            assert_eq!(parse_range(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        assert_eq!(disposition("m.pkl"), "attachment; filename=m.pkl");
        assert_eq!(
            disposition("a\"; b é.txt"),
            "attachment; filename=\"a__ b _.txt\"; filename*=UTF-8''a%22%3B%20b%20%C3%A9.txt"
        );
    }

    #[test]
    fn text_is_plain_text_and_the_unknown_is_bytes() {
        assert_eq!(content_type("MLmodel"), "text/plain");
        assert_eq!(content_type("c.JSON"), "text/plain");
        assert_eq!(content_type("c.html"), "text/html");
        assert_eq!(content_type("model.pkl"), "application/octet-stream");
    }
}
