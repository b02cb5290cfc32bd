//! Where another server kept files, and where they belong here.

use std::path::{Path, PathBuf};

use tracking::{Location, Owner};

/// A place as another server wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// In that server's own artifact store.
    Served(Location),
    /// A folder of that server's machine.
    Disk(PathBuf),
    /// At an address that clients read by themselves, or that asgard has no place for.
    Remote,
}

/// Where files are to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// A place in the artifact store of the other server.
    Server(Location),
    Disk(PathBuf),
    /// They stay where they are.
    Nowhere,
}

/// What an import makes of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: From,
    /// The URI from now on.
    pub(super) uri: String,
}

/// Maps the place of a run, logged model, trace or experiment, whose own place here is `home`.
pub(super) fn moved(uri: &str, home: &str) -> Move {
    let here = || Location::root().join(home).map(|place| place.uri());
    match origin(uri) {
        Origin::Served(place) => Move {
            uri: place.uri(),
            from: From::Server(place),
        },
        Origin::Disk(path) => match here() {
            Ok(uri) => Move {
                from: From::Disk(path),
                uri,
            },
            Err(_) => stays(uri),
        },
        Origin::Remote => stays(uri),
    }
}

fn stays(uri: &str) -> Move {
    Move {
        from: From::Nowhere,
        uri: uri.to_owned(),
    }
}

fn origin(uri: &str) -> Origin {
    if let Some(path) = uri.strip_prefix("mlflow-artifacts:") {
        // Some clients wrote the server's own address into it.
        let path = match path.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
            None => path,
        };
        let place = Location::root().join(path.trim_start_matches('/'));
        return place.map_or(Origin::Remote, Origin::Served);
    }
    match uri.split_once(':') {
        Some(("file", path)) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            let path = path.strip_prefix("localhost").unwrap_or(path);
            let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
            decoded.map_or(Origin::Remote, |path| Origin::Disk(path.as_ref().into()))
        }
        Some((scheme, _)) if scheme.len() > 1 && !scheme.contains('/') => Origin::Remote,
        _ if uri.is_empty() => Origin::Remote,
        _ => Origin::Disk(uri.into()),
    }
}

/// The run, logged model or trace that a place belongs to, and the path from its folder to there.
pub(super) fn owner(uri: &str) -> Option<(Owner, String)> {
    let place = match origin(uri) {
        Origin::Served(place) => place,
        Origin::Disk(path) => {
            let path = path.to_str()?.trim_start_matches(['/', '.']).to_owned();
            Location::root().join(&path).ok()?
        }
        Origin::Remote => return None,
    };
    let owner = Owner::of(&place)?;
    let (Owner::Run(id) | Owner::LoggedModel(id) | Owner::Trace(id)) = &owner;
    let (_, below) = place.key().split_once(&format!("{id}/artifacts"))?;
    let below = below.trim_start_matches('/').to_owned();
    Some((owner, below))
}

/// Whether this is the artifact folder that MLflow gives what has this id. Whoever chose an
/// experiment's place chose the beginning of the path: what does not end so may be anything of
/// that machine.
pub(super) fn is_folder_of(path: &Path, id: &str) -> bool {
    path.ends_with(Path::new(id).join("artifacts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn every_form_of_a_place_is_understood() {
        let home = format!("1/{RUN}/artifacts");
        let here = format!("mlflow-artifacts:/{home}");
        for (uri, from) in [
            (
                here.clone(),
                From::Server(Location::root().join(&home).unwrap()),
            ),
            (
                format!("mlflow-artifacts://host:5000/{home}"),
                From::Server(Location::root().join(&home).unwrap()),
            ),
            (
                format!("/data/{home}"),
                From::Disk(format!("/data/{home}").into()),
            ),
            (
                format!("file:///data/{home}"),
                From::Disk(format!("/data/{home}").into()),
            ),
            (
                format!("./mlruns/{home}"),
                From::Disk(format!("./mlruns/{home}").into()),
            ),
            ("file:///a%20b".to_owned(), From::Disk("/a b".into())),
        ] {
            let moved = moved(&uri, &home);
            assert_eq!(moved.from, from, "{uri}");
            assert_eq!(moved.uri, here, "{uri}");
        }
        for uri in [
            "s3://bucket/1",
            "dbfs:/x",
            "gs://b",
            "mlflow-artifacts:/../x",
            "",
        ] {
            assert_eq!(moved(uri, &home), stays(uri), "{uri}");
        }
    }

    #[test]
    fn a_place_below_a_run_is_found_again() {
        let run = Owner::Run(RUN.to_owned());
        for (uri, below) in [
            (format!("/data/1/{RUN}/artifacts/model"), "model"),
            (format!("./mlruns/1/{RUN}/artifacts"), ""),
            (format!("mlflow-artifacts:/1/{RUN}/artifacts/a/b"), "a/b"),
        ] {
            assert_eq!(owner(&uri), Some((run.clone(), below.to_owned())), "{uri}");
        }
        assert_eq!(owner("/etc/passwd"), None);
        assert_eq!(
            owner("s3://b/0123456789abcdef0123456789abcdef/artifacts"),
            None
        );
    }

    #[test]
    fn only_folders_of_their_owner_are_read() {
        assert!(is_folder_of(Path::new("/x/7/artifacts"), "7"));
        assert!(!is_folder_of(Path::new("/etc"), "7"));
        assert!(!is_folder_of(Path::new("/x/7/artifacts/.."), "7"));
    }
}
