//! What to tell about a job that failed: the cause, and the cure.

use environments::Error as EnvironmentError;
use sandbox::Exit;
use tracking::FailedUpload;

use crate::config::Network;
use crate::error::Error;
use crate::execution::{Ended, Stopped};
use crate::imports;
use crate::job::{Job, Problem, Reason};
use crate::log::ScriptFailure;
use crate::memory;

/// The title that document 002 gives to every failed training.
const FAILED: &str = "Training Failed";

/// What a script needs so that asgard can register its model.
pub(crate) const SCRIPT_MUST: &str = "Your script MUST:\n1. Call mlflow.start_run()\n2. Train your model\n3. Call mlflow.<framework>.log_model(model, 'model')\nExample: mlflow.sklearn.log_model(model, 'model')";

fn problem(code: &str, message: impl Into<String>, help: Option<String>) -> Problem {
    Problem {
        code: code.to_owned(),
        error: FAILED.to_owned(),
        message: message.into(),
        details: None,
        help,
    }
}

/// A failure with its one-word reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) problem: Problem,
}

impl Failure {
    fn user(problem: Problem) -> Self {
        Self {
            reason: Reason::User,
            problem,
        }
    }
}

/// Somebody cancelled the job.
pub(crate) fn cancelled(by: &str) -> Failure {
    Failure {
        reason: Reason::Cancelled,
        problem: Problem {
            error: "Cancelled".to_owned(),
            ..problem("cancelled", format!("the job was cancelled by {by}"), None)
        },
    }
}

/// The server died under the job, as often as it may.
pub(crate) fn lost(attempts: i64) -> Failure {
    Failure {
        reason: Reason::Lost,
        problem: Problem {
            error: "Lost".to_owned(),
            ..problem(
                "lost",
                format!("the server died while the job ran, {attempts} times"),
                Some("upload the script again; if it happens again, the job may take more memory than the machine has: set resources.memory".to_owned()),
            )
        },
    }
}

/// The row of the job is not what this version writes.
pub(crate) fn unreadable(column: &str) -> Failure {
    Failure {
        reason: Reason::Infra,
        problem: problem(
            "job_unreadable",
            format!("the stored job cannot be read: its {column} is not what this version of asgard writes"),
            Some("upload the script again; another version of asgard, or a change by hand, wrote to the table training_jobs".to_owned()),
        ),
    }
}

/// The variables of the job were sealed with a key that this server does not have.
pub(crate) fn sealed(job_id: &str) -> Failure {
    Failure {
        reason: Reason::Infra,
        problem: problem(
            "variables_sealed",
            Error::Sealed(job_id.to_owned()).to_string(),
            Some("give every server on this database the same server.secret_key, then upload the script again".to_owned()),
        ),
    }
}

/// Something of the platform failed.
pub(crate) fn infra(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    Failure {
        reason: Reason::Infra,
        problem: problem(
            "platform_failed",
            format!("the platform failed while it ran the job: {text}"),
            Some(
                "this is not the script's fault: try again, and look into the server's log"
                    .to_owned(),
            ),
        ),
    }
}

/// The requirements could not be met.
pub(crate) fn of_preparation(error: Error) -> Failure {
    match error {
        Error::Metadata(message) => Failure::user(problem(
            "inline_metadata",
            message,
            Some(
                "mend the `# /// script` block, or send \"requirements\" with the upload"
                    .to_owned(),
            ),
        )),
        Error::Environments(error) if error.is_invalid_request() => {
            Failure::user(of_environment(&error))
        }
        Error::Environments(error) => Failure {
            reason: Reason::Infra,
            problem: of_environment(&error),
        },
        other => infra(&other),
    }
}

fn of_environment(error: &EnvironmentError) -> Problem {
    Problem {
        details: error.output().map(str::to_owned),
        ..problem(
            "requirements_failed",
            format!("the requirements could not be installed: {error}"),
            error.help().map(str::to_owned),
        )
    }
}

/// Installing took too long.
pub(crate) fn install_timeout(seconds: u64) -> Failure {
    Failure {
        reason: Reason::Timeout,
        problem: problem(
            "install_timeout",
            format!("installing the requirements took longer than {seconds} s"),
            Some("ask for fewer packages, try again (what was downloaded is kept), or raise jobs.install_timeout_s in asgard.toml".to_owned()),
        ),
    }
}

/// Why a script that did not end well failed; `None` when it ended well.
pub(crate) fn of_script(
    ended: &Ended,
    job: &Job,
    memory_limit: Option<u64>,
    network: Network,
) -> Option<Failure> {
    match ended.stopped {
        Some(Stopped::Cancelled) => return Some(cancelled("a request")),
        Some(Stopped::TimedOut) => return Some(timed_out(job)),
        Some(Stopped::NeverBegan) => {
            return Some(infra(&std::io::Error::other(
                "the interpreter did not begin the script",
            )));
        }
        Some(Stopped::Lost | Stopped::Shutdown) | None => {}
    }
    let out_of_python = ended
        .failure
        .as_ref()
        .is_some_and(|failure| failure.kind == "MemoryError");
    if ended.exit.success() {
        return (!ended.begun).then(|| {
            infra(&std::io::Error::other(
                "the interpreter ended before it began the script",
            ))
        });
    }
    if ended.exit.out_of_memory || out_of_python {
        return Some(out_of_memory(
            &ended.exit,
            memory_limit,
            ended.failure.as_ref(),
        ));
    }
    if let Some(failure) = ended.failure.as_ref().filter(|f| is_servers_fault(f)) {
        return Some(server_failed(failure));
    }
    Some(Failure::user(match &ended.failure {
        Some(failure) => of_exception(failure, job, network),
        None => of_exit(&ended.exit, ended.begun),
    }))
}

/// Whether MLflow's client gave up on this server (`mlflow/utils/rest_utils.py`).
fn is_servers_fault(failure: &ScriptFailure) -> bool {
    failure.kind == "MlflowException"
        && failure.message.starts_with("API request to ")
        && failure.message.contains("too many 500 error responses")
}

fn server_failed(failure: &ScriptFailure) -> Failure {
    Failure {
        reason: Reason::Infra,
        problem: Problem {
            details: failure.traceback.clone(),
            ..problem(
                "tracking_failed",
                "the server failed while it answered the script's MLflow calls",
                Some("this is not the script's fault: the server's log has the cause; upload the script again when it is mended".to_owned()),
            )
        },
    }
}

fn timed_out(job: &Job) -> Failure {
    let seconds = job.request.timeout_s;
    Failure {
        reason: Reason::Timeout,
        problem: problem(
            "timeout",
            format!("the script ran longer than its timeout of {seconds} s and was stopped"),
            Some(format!(
                "upload it again with a larger \"timeout\" (seconds), for example {}; installing packages does not count",
                (seconds * 2).max(600)
            )),
        ),
    }
}

fn out_of_memory(exit: &Exit, limit: Option<u64>, failure: Option<&ScriptFailure>) -> Failure {
    let used = memory::display(exit.usage.peak_memory_bytes);
    let message = match limit {
        Some(limit) => format!(
            "out of memory: the script may use {}, and had used {used} when it was stopped",
            memory::display(limit)
        ),
        None => format!("out of memory: the script had used {used} when it was stopped"),
    };
    let wanted = limit.unwrap_or(exit.usage.peak_memory_bytes) / (1 << 20) * 2;
    Failure {
        reason: Reason::Oom,
        problem: Problem {
            details: failure.and_then(|f| f.traceback.clone()),
            ..problem(
                "out_of_memory",
                message,
                Some(format!(
                    "use less data at a time, or ask for more: \"resources\": {{\"memory\": \"{wanted}Mi\"}}"
                )),
            )
        },
    }
}

fn of_exception(failure: &ScriptFailure, job: &Job, network: Network) -> Problem {
    let file = &job.request.script_file;
    let place = failure
        .line
        .map(|line| format!(" ({file}, line {line})"))
        .unwrap_or_default();
    if failure.kind == "SystemExit" {
        return problem(
            "script_exited",
            format!("the script called sys.exit({})", failure.message),
            Some("a script that ends well calls sys.exit(0) or nothing; the log shows why it stopped".to_owned()),
        );
    }
    // Python adds the place to a syntax error by itself.
    let message = match failure.message.as_str() {
        "" => format!("{}{place}", failure.kind),
        text if failure.kind.ends_with("SyntaxError") || failure.kind == "IndentationError" => {
            format!("{}: {text}", failure.kind)
        }
        text => format!("{}: {text}{place}", failure.kind),
    };
    let (code, help) = cure(failure, network);
    Problem {
        details: failure.traceback.clone(),
        ..problem(code, message, help)
    }
}

/// The code and the cure of an exception that has a usual cause.
fn cure(failure: &ScriptFailure, network: Network) -> (&'static str, Option<String>) {
    const NETWORK: [&str; 12] = [
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectTimeout",
        "ConnectError",
        "ConnectTimeoutError",
        "MaxRetryError",
        "NameResolutionError",
        "NewConnectionError",
        "ProxyError",
        "URLError",
        "gaierror",
        "EndpointConnectionError",
    ];
    match failure.kind.as_str() {
        "ModuleNotFoundError" | "ImportError" => {
            let module = failure.module.as_deref().unwrap_or_default();
            let top = module.split('.').next().unwrap_or_default();
            let help = imports::package_of(top).filter(|_| !top.is_empty()).map(|package| {
                format!(
                    "add \"{package}\" to the requirements (in the request, by -r, or in the script's own dependencies) and upload the script again; if it is a module of yours, put its code into the script: only that one file is uploaded"
                )
            });
            ("import_error", help)
        }
        "SyntaxError" | "IndentationError" | "TabError" => (
            "syntax_error",
            Some("the script is not valid Python; run it locally first".to_owned()),
        ),
        kind if NETWORK.contains(&kind) && network == Network::Private => (
            "script_failed",
            Some("a job reaches this server and nothing else: put the data into a folder of jobs.data_dirs (by default /data), or let jobs use the network with jobs.network = \"host\" in asgard.toml".to_owned()),
        ),
        "FileNotFoundError" | "PermissionError" => (
            "script_failed",
            Some("a job sees its own folder and the folders of jobs.data_dirs (by default /data, read-only), not the machine's files".to_owned()),
        ),
        _ => (
            "script_failed",
            Some("the traceback is in details and in the log; line numbers are those of the uploaded script".to_owned()),
        ),
    }
}

fn of_exit(exit: &Exit, begun: bool) -> Problem {
    let what = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (Some(code), None) => format!("ended with exit code {code}"),
        (None, None) => "ended without an exit code".to_owned(),
    };
    if !begun {
        return problem(
            "script_not_begun",
            format!("the interpreter {what} before it began the script"),
            Some("the log may show why; a package of the requirements may be broken".to_owned()),
        );
    }
    problem(
        "script_failed",
        format!("the script {what}"),
        Some("the log shows what it printed last".to_owned()),
    )
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL: an instruction that this processor does not have",
        6 => "SIGABRT: a native library gave up",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV: a native library crashed",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ: a file grew larger than a job may write",
        31 => "SIGSYS: a system call that jobs may not make",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

/// The script made neither a run nor a model.
pub(crate) fn no_mlflow_run(autolog: bool) -> Failure {
    let mut help = SCRIPT_MUST.to_owned();
    if !autolog {
        help.push_str("\nOr upload it again with \"autolog\": true: MLflow then logs scikit-learn, XGBoost, LightGBM, PyTorch and others by itself.");
    }
    Failure::user(Problem {
        error: "No MLflow run created".to_owned(),
        ..problem(
            "no_mlflow_run",
            format!("No MLflow runs found. {SCRIPT_MUST}"),
            Some(help),
        )
    })
}

/// The script made a run, but no model.
pub(crate) fn no_model_artifact(found: &[String]) -> Problem {
    let listed = if found.is_empty() {
        "The run has no artifacts.".to_owned()
    } else {
        format!("Artifacts found: {}", found.join(", "))
    };
    Problem {
        error: "No model artifact found".to_owned(),
        details: Some(listed),
        ..problem(
            "no_model_artifact",
            "No model artifact found. Your script MUST call:\nmlflow.<framework>.log_model(model, 'model')",
            Some("scikit-learn: mlflow.sklearn.log_model(model, 'model')\nXGBoost: mlflow.xgboost.log_model(model, 'model')\nLightGBM: mlflow.lightgbm.log_model(model, 'model')\nPyTorch: mlflow.pytorch.log_model(model, 'model')\nany object with predict(): pickle it and call mlflow.log_artifact('model.pkl', artifact_path='model')".to_owned()),
        )
    }
}

/// Files that the script logged and that the server did not store (C38).
pub(crate) fn artifacts_not_stored(failed: &[FailedUpload]) -> Problem {
    let listed: Vec<String> = failed
        .iter()
        .map(|f| format!("{}: {}", f.path, f.cause))
        .collect();
    Problem {
        error: "Artifacts not saved".to_owned(),
        details: Some(listed.join("\n")),
        ..problem(
            "artifacts_not_stored",
            format!("{} of the files that the script logged could not be stored, the first because: {}", failed.len(), failed[0].cause),
            Some("the script ran on without them: mend the cause and run it again; `asgard doctor` tests whether the artifact store can be written".to_owned()),
        )
    }
}

/// The script logged a model whose files did not reach the artifact store.
pub(crate) fn model_not_stored(model_ids: &[String]) -> Problem {
    Problem {
        error: "Model artifact not saved".to_owned(),
        details: Some(format!("Logged models without files: {}", model_ids.join(", "))),
        ..problem(
            "model_not_stored",
            "Model artifact not saved: the script logged a model, but its files are not in the artifact store",
            Some("the log shows the upload's error; `asgard doctor` tests whether the artifact store can be written".to_owned()),
        )
    }
}

/// The model was logged but could not be registered.
pub(crate) fn registration_failed(name: &str, error: &registry::Error) -> Failure {
    Failure {
        reason: Reason::Infra,
        problem: problem(
            "registration_failed",
            format!("Model registration failed: {name:?} could not become a registered model: {error}"),
            Some("the run and its model are kept: register it by POST /mlops/registry with the job's run_id".to_owned()),
        ),
    }
}
