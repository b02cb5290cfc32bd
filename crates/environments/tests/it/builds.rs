//! Environments are built once, completely, and found again.

use std::path::Path;
use std::time::{Duration, Instant};

use environments::{Config, EnvironmentRequest, Environments, HostEnvironment, Step};
use sandbox::{Level, Sandbox};

use crate::setup::{bare_config, config, ensure, offline, open, python, python_in, request};

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_holds_its_packages_and_their_bytecode() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &bare_config()).await;
    let wanted = EnvironmentRequest {
        probe: vec!["six".to_owned(), "no_such_module".to_owned()],
        ..request(&["six>=1.16"])
    };
    let (environment, steps) = ensure(&environments, &wanted).await.unwrap();
    assert_eq!(environment.packages[0].0, "six");
    assert!(environment.lock().contains("--hash=sha256:"));
    assert_eq!(
        steps.last(),
        Some(&Step::Ready {
            packages: 1,
            cached: false
        })
    );
    let (exit, said) = python(
        &environment,
        "import os, sys, six; print(sys.prefix, os.path.exists(six.__cached__))",
    )
    .await;
    assert!(exit.success(), "{said}");
    assert_eq!(said.trim(), format!("{} True", environment.root.display()));
    let (exit, said) = python(&environment, "import six; open(six.__file__, 'a')").await;
    if crate::setup::sandbox().await.has_private_files() {
        assert!(!exit.success() && said.contains("Read-only"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_built_at_every_level_of_isolation() {
    let wanted = EnvironmentRequest {
        probe: vec!["six".to_owned()],
        ..request(&["six"])
    };
    for level in [Level::Strict, Level::User, Level::Landlock, Level::None] {
        let sandbox = match Sandbox::at(level, &sandbox::Config::default()).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                eprintln!("skipped at level {}: {error}", level.name());
                continue;
            }
        };
        let data = tempfile::tempdir().unwrap();
        let environments = Environments::open(&config().await, data.path(), sandbox.clone())
            .await
            .unwrap();
        let built = environments.ensure(&wanted, &|_| {}).await;
        let built = built.unwrap_or_else(|e| panic!("{level:?}: {e}: {:?}", e.output()));
        let code = "import os, six; print(os.path.exists(six.__cached__))";
        let (exit, said) = python_in(&sandbox, &built, code).await;
        assert!(exit.success() && said.trim() == "True", "{level:?}: {said}");
    }
}

/// Makes a wheel of one module, `greedy`, which writes into its own file when it is imported.
const GREEDY: &str = r#"
import sys, zipfile
code = """
try:
    with open(__file__, 'a') as own:
        own.write('# changed by an import')
except OSError:
    pass
"""
info = 'greedy-1.0.dist-info/'
with zipfile.ZipFile(sys.argv[1] + '/greedy-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('greedy.py', code)
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr(info + 'RECORD', 'greedy.py,,\n' + info + 'METADATA,,\n' + info + 'WHEEL,,\n' + info + 'RECORD,,\n')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_imported_for_its_bytecode_changes_nothing() {
    let (data, wheels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plain = open(data.path(), &config().await).await;
    let (python, _) = ensure(&plain, &request(&[])).await.unwrap();
    let made = std::process::Command::new(&python.python)
        .args(["-c", GREEDY])
        .arg(wheels.path())
        .status();
    assert!(made.unwrap().success());

    let links = [
        (
            "UV_FIND_LINKS".to_owned(),
            wheels.path().display().to_string(),
        ),
        ("UV_NO_INDEX".to_owned(), "1".to_owned()),
    ];
    let config = Config {
        host: HostEnvironment::from_variables(std::env::vars().chain(links)),
        ..config().await
    };
    let environments = open(data.path(), &config).await;
    let wanted = EnvironmentRequest {
        probe: vec!["greedy".to_owned()],
        ..request(&["greedy"])
    };
    let (built, _) = ensure(&environments, &wanted).await.unwrap();
    let code = "import os, greedy; print(os.path.exists(greedy.__cached__), 'changed by' in open(greedy.__file__).read().split('own.write')[1].split(chr(10), 1)[1])";
    let (exit, said) = crate::setup::python(&built, code).await;
    assert!(exit.success() && said.trim() == "True False", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_list_is_ready_at_once_and_needs_no_network() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    let (first, _) = ensure(&environments, &request(&["six"])).await.unwrap();
    let (second, steps) = ensure(&environments, &request(&["Six "])).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(
        steps,
        [Step::Ready {
            packages: 1,
            cached: true
        }]
    );
    // A later start finds it too.
    let reopened = open(data.path(), &config().await).await;
    assert_eq!(reopened.find(&first.key).await, Some(first.clone()));
    assert_eq!(reopened.find("../../etc").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_resolution_serves_while_the_index_does_not_answer() {
    let data = tempfile::tempdir().unwrap();
    let online = open(data.path(), &config().await).await;
    let (built, _) = ensure(&online, &request(&["six"])).await.unwrap();

    let environments = open(data.path(), &offline().await).await;
    let (served, steps) = ensure(&environments, &request(&["six"])).await.unwrap();
    assert_eq!(served, built);
    assert!(steps.contains(&Step::Resolving), "{steps:?}");

    let error = ensure(&environments, &request(&["tabulate"]))
        .await
        .unwrap_err();
    assert!(!error.is_invalid_request(), "{error}");
    assert!(error.help().unwrap().contains("index"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_build_once() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    let wanted = request(&["six"]);
    let (first, second) = tokio::join!(
        ensure(&environments, &wanted),
        ensure(&environments, &wanted)
    );
    assert_eq!(first.unwrap().0, second.unwrap().0);
    assert_eq!(complete(data.path()), 1);
    assert_eq!(under_construction(data.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_built_is_removed() {
    let data = tempfile::tempdir().unwrap();
    drop(open(data.path(), &config().await).await);
    let left_over = data.path().join("cache/uv/building/abc-123/env/bin");
    std::fs::create_dir_all(left_over).unwrap();
    std::fs::write(data.path().join("cache/uv/building/abc-123.lock"), "").unwrap();
    std::fs::create_dir_all(data.path().join("cache/uv/building/without-a-lock")).unwrap();
    drop(open(data.path(), &config().await).await);
    assert_eq!(under_construction(data.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_nobody_waits_for_is_stopped() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    let wanted = request(&["six", "tabulate"]);
    let under_way = async {
        while under_construction(data.path()) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = ensure(&environments, &wanted) => panic!("the build was seen too late"),
        () = under_way => {}
    }
    let patience = Instant::now() + Duration::from_secs(60);
    while under_construction(data.path()) > 0 {
        assert!(Instant::now() < patience, "the build goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(complete(data.path()), 0);
    // Who asks afterwards gets a build of their own.
    assert_eq!(
        ensure(&environments, &wanted)
            .await
            .unwrap()
            .0
            .packages
            .len(),
        2
    );
}

#[test]
fn a_build_that_is_killed_leaves_nothing_half_made() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let environments = open(data.path(), &config().await).await;
        let building = request(&["six", "tabulate"]);
        let ensuring = ensure(&environments, &building);
        let seen = async {
            while under_construction(data.path()) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = ensuring => {}
            () = seen => {}
        }
    });
    // The server stops while it builds.
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(complete(data.path()), 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let environments = open(data.path(), &config().await).await;
        assert_eq!(under_construction(data.path()), 0);
        let (built, _) = ensure(&environments, &request(&["six", "tabulate"]))
            .await
            .unwrap();
        assert_eq!(built.packages.len(), 2);
    });
}

fn complete(data_dir: &Path) -> usize {
    std::fs::read_dir(data_dir.join("environments"))
        .unwrap()
        .count()
}

fn under_construction(data_dir: &Path) -> usize {
    std::fs::read_dir(data_dir.join("cache/uv/building"))
        .unwrap()
        .count()
}
