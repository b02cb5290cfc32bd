//! What cannot be had says why, and what to do.

use environments::{EnvironmentRequest, Error};

use crate::setup::{config, ensure, open, request};

async fn refused(requirements: &[&str]) -> Error {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    ensure(&environments, &request(requirements))
        .await
        .unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_exist_is_named() {
    let error = refused(&["six==99"]).await;
    assert!(error.to_string().contains("six==99"), "{error}");
    assert!(error.is_invalid_request());
    assert!(error.output().unwrap().contains("No solution found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_without_a_wheel_is_not_built_unasked() {
    let error = refused(&["sklearn"]).await;
    assert!(
        error
            .help()
            .unwrap()
            .contains("environments.allow_source_builds"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_among_the_requirements_is_refused() {
    let error = refused(&["six", "-r /etc/passwd"]).await;
    assert!(
        error
            .to_string()
            .contains("\"-r /etc/passwd\" is an option"),
        "{error}"
    );
    assert!(error.is_invalid_request());
}

/// Row 29 of the published mistakes (docs/security.md): a package's name ended up in a Dockerfile.
#[tokio::test(flavor = "multi_thread")]
async fn a_requirement_is_one_and_nothing_more() {
    for text in [
        "six\nRUN touch made",
        "six; $(touch made)",
        "six && touch made",
        "`id`",
    ] {
        let error = refused(&[text]).await;
        assert!(error.is_invalid_request(), "{text:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_that_is_not_here_lists_those_that_are() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    let wanted = EnvironmentRequest {
        python: Some("3.99".to_owned()),
        ..request(&[])
    };
    let program = EnvironmentRequest {
        python: Some("/bin/sh".to_owned()),
        ..request(&[])
    };
    let error = ensure(&environments, &program).await.unwrap_err();
    assert!(error.to_string().contains("no such version"), "{error}");
    let error = ensure(&environments, &wanted).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no Python 3.99 was found: there are 3."),
        "{error}"
    );
}
