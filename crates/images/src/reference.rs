//! Names of images: `registry.example.org/team/model:3`.

use std::fmt;

use crate::digest::Digest;
use crate::error::Error;

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The host, with its port where it has one.
    pub host: String,
    /// The path below the host.
    pub path: String,
}

/// An image of a repository, by tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub repository: Repository,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Repository {
    /// Reads `HOST/PATH`. As Docker does, a name without a host is one of Docker Hub.
    ///
    /// # Errors
    /// When it cannot be such a name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Reference {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => ("docker.io", text.to_owned()),
            None => ("docker.io", format!("library/{text}")),
        };
        if !path.split('/').all(is_component) {
            return Err(refused(
                "has a part that is not made of lower-case letters, digits, '.', '_' and '-'",
            ));
        }
        if path.len() > 255 {
            return Err(refused("is longer than 255 characters"));
        }
        Ok(Self {
            host: canonical_host(host).to_owned(),
            path,
        })
    }

    /// This repository's image of a digest.
    pub fn at(&self, digest: &Digest) -> String {
        format!("{self}@{digest}")
    }
}

impl Reference {
    /// Reads `HOST/PATH[:TAG][@DIGEST]`.
    ///
    /// # Errors
    /// When it cannot be such a name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Reference {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest);
                (
                    rest,
                    Some(digest.ok_or_else(|| refused("has no SHA-256 digest after its '@'"))?),
                )
            }
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // The colon of a port is followed by the path.
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused(
                "has a tag that is not made of up to 128 letters, digits, '.', '_' and '-'",
            ));
        }
        let repository = Repository::parse(rest).map_err(|error| match error {
            Error::Reference { reason, .. } => refused(&reason),
            other => other,
        })?;
        Ok(Self {
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The same image by another tag.
    #[must_use]
    pub fn tagged(self, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self
        }
    }

    /// What a registry calls it: the digest before the tag.
    pub(crate) fn name(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_str() {
            "registry-1.docker.io" => write!(f, "docker.io/{}", self.path),
            host => write!(f, "{host}/{}", self.path),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.repository),
            None => write!(f, "{}:{}", self.repository, self.name()),
        }
    }
}

/// A name as one part of a repository's path: what it may not contain becomes '-'.
pub fn path_component(name: &str) -> String {
    let mut part = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => part.push(c),
            _ if part.ends_with('-') || part.is_empty() => {}
            _ => part.push('-'),
        }
    }
    let part = part.trim_end_matches('-');
    if part.is_empty() {
        return "model".to_owned();
    }
    part.chars().take(128).collect()
}

/// The host that answers under a name: Docker Hub is called by another one.
pub(crate) fn canonical_host(name: &str) -> &str {
    match name {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        name => name,
    }
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

fn is_component(part: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let ends = |b: Option<&u8>| b.is_some_and(|b| !b"._-".contains(b));
    part.bytes().all(ok) && ends(part.as_bytes().first()) && ends(part.as_bytes().last())
}

fn is_tag(tag: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(ok) && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, host, path, name) in [
            ("python", "registry-1.docker.io", "library/python", "latest"),
            ("me/it:1", "registry-1.docker.io", "me/it", "1"),
            (
                "docker.io/library/python:3.11",
                "registry-1.docker.io",
                "library/python",
                "3.11",
            ),
            ("localhost:5000/a/b", "localhost:5000", "a/b", "latest"),
            ("r.example/a:t", "r.example", "a", "t"),
            (
                &format!("r.example/a:t@{digest}"),
                "r.example",
                "a",
                digest.as_str(),
            ),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.repository.host, host, "{text}");
            assert_eq!(reference.repository.path, path, "{text}");
            assert_eq!(reference.name(), name, "{text}");
        }
        for text in [
            "r.example/A",
            "r.example/",
            "r.example/a:",
            "r.example/a@x",
            "r.example/-a",
            "python:3.11\nRUN id",
            "python\nRUN id:3.11",
            "python:$(id)",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_model_name_becomes_a_path() {
        assert_eq!(path_component("Iris Model!v2"), "iris-model-v2");
        assert_eq!(path_component("—"), "model");
        assert!(is_component(&path_component("__x__")));
    }
}
