//! Signing a request to AWS (Signature Version 4), for the JSON services: ECR and Glue.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

/// The keys that calls to AWS are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsKeys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AwsKeys({})", self.access_key_id)
    }
}

/// A POST to the root of a service.
pub struct Call<'a> {
    pub host: &'a str,
    pub service: &'a str,
    pub region: &'a str,
    /// Names in lower case; what else is signed is added.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

/// The headers that make the call the one of who holds the keys.
pub fn sign(call: &Call<'_>, keys: &AwsKeys, now: OffsetDateTime) -> Vec<(&'static str, String)> {
    let day = format!(
        "{:04}{:02}{:02}",
        now.year(),
        u8::from(now.month()),
        now.day()
    );
    let time = format!(
        "{day}T{:02}{:02}{:02}Z",
        now.hour(),
        now.minute(),
        now.second()
    );
    let mut headers = call.headers.to_vec();
    headers.extend([("host", call.host), ("x-amz-date", &time)]);
    if let Some(token) = &keys.session_token {
        headers.push(("x-amz-security-token", token));
    }
    headers.sort_unstable();
    let lines: String = headers
        .iter()
        .map(|(k, v)| format!("{k}:{}\n", v.trim()))
        .collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let body = hex(Sha256::digest(call.body).as_slice());
    let request = format!("POST\n/\n\n{lines}\n{names}\n{body}");

    let scope = format!("{day}/{}/{}/aws4_request", call.region, call.service);
    let request = hex(Sha256::digest(request).as_slice());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}");
    let key = format!("AWS4{}", keys.secret_access_key).into_bytes();
    let parts = [&day, call.region, call.service, "aws4_request", &text];
    let signature = parts.iter().fold(key, |key, part| mac(&key, part));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.access_key_id,
        hex(&signature)
    );
    let mut added = vec![("x-amz-date", time), ("authorization", authorization)];
    if let Some(token) = &keys.session_token {
        added.push(("x-amz-security-token", token.clone()));
    }
    added
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of HMAC may have any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The case `post-header-key-sort` of the examples that AWS publishes for signers.
    #[test]
    fn a_call_is_signed_as_the_published_example() {
        let keys = AwsKeys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let call = Call {
            host: "example.amazonaws.com",
            service: "service",
            region: "us-east-1",
            headers: &[("my-header1", "value1")],
            body: "",
        };
        let now = OffsetDateTime::from_unix_timestamp(1_440_938_160).unwrap();
        let signed = sign(&call, &keys, now);
        assert_eq!(signed[0].1, "20150830T123600Z");
        assert_eq!(
            signed[1].1,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;my-header1;x-amz-date, \
             Signature=c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"
        );
    }
}
