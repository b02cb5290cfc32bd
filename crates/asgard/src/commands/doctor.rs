//! `asgard doctor`: what works here, what does not, and what would mend it.

use std::path::Path;

use environments::Environments;
use sandbox::Sandbox;
use serde_json::{Value, json};
use tracking::Artifacts;

use super::Context;
use super::cli::LocalArgs;
use super::output::{Format, line};
use crate::failure::{Exit, Failure};
use crate::http::doctor::Examined;
use crate::settings::Settings;
use crate::up;

/// One thing that was tried.
struct Finding {
    area: &'static str,
    name: String,
    /// Whether asgard can do its work with it as it is.
    ok: bool,
    detail: String,
    fix: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &LocalArgs) -> anyhow::Result<()> {
    let settings = context.load(&args.flags())?.settings;
    let mut findings = Vec::new();
    let answers = server(context, args, &mut findings).await;
    if answers {
        let client = context.client(&args.remote)?;
        mechanisms(&client.get("/mlops/doctor", &[]).await?, &mut findings);
    } else if !store(context, &settings, &mut findings).await {
        // What a running server builds in its directory is not to be touched from here.
        mechanisms(&examine(context, &settings).await?, &mut findings);
    }
    print(&findings, args)?;
    let broken = findings.iter().filter(|f| !f.ok).count();
    if broken > 0 {
        let message = format!("{broken} of {} things do not work", findings.len());
        return Err(Failure::new(Exit::Failure, message).into());
    }
    Ok(())
}

/// Asks the server; true when it answers.
async fn server(context: &Context<'_>, args: &LocalArgs, findings: &mut Vec<Finding>) -> bool {
    let status = match context.client(&args.remote) {
        Ok(client) => client
            .get("/mlops/status", &[])
            .await
            .map(|status| (client.url().to_owned(), status)),
        Err(failure) => Err(failure),
    };
    let (url, status) = match status {
        Ok(found) => found,
        Err(failure) => {
            findings.push(Finding {
                area: "server",
                name: "answers".to_owned(),
                ok: false,
                detail: failure.message().to_owned(),
                fix: failure.help_text().map(str::to_owned),
            });
            return false;
        }
    };
    let version = status["version"].as_str().unwrap_or("of unknown version");
    findings.push(Finding {
        area: "server",
        name: "answers".to_owned(),
        ok: true,
        detail: format!("{url}, asgard {version}"),
        fix: None,
    });
    findings.push(Finding {
        area: "server",
        name: "tracking".to_owned(),
        ok: status["mlflow_available"] == true,
        detail: status["mlflow_tracking_uri"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        fix: (status["mlflow_available"] != true)
            .then(|| "the server's log says why its database does not answer".to_owned()),
    });
    let storage = &status["storage"];
    let error = storage["artifacts_error"].as_str();
    findings.push(Finding {
        area: "server",
        name: "artifacts".to_owned(),
        ok: storage["artifacts_writable"] != false,
        detail: match storage["artifacts_writable"].as_bool() {
            Some(true) => "can be written".to_owned(),
            Some(false) => error.unwrap_or("cannot be written").to_owned(),
            None => "are being tried; ask again".to_owned(),
        },
        fix: error.map(artifacts_fix),
    });
    true
}

/// Tries the store of artifacts, as no server does it.
async fn artifacts(settings: &Settings, data_dir: &Path) -> Finding {
    let mut finding = Finding {
        area: "store",
        name: "artifacts".to_owned(),
        ok: true,
        detail: String::new(),
        fix: None,
    };
    let folder = settings.artifacts.folder(data_dir);
    if let Some(folder) = folder.filter(|folder| !folder.exists()) {
        // Trying must not make a directory that nobody asked for.
        finding.detail = format!("{} is made by 'asgard up'", folder.display());
        return finding;
    }
    let tried = match Artifacts::open(&settings.artifacts, data_dir) {
        Ok(artifacts) => artifacts.check_writable().await,
        Err(error) => Err(error),
    };
    match tried {
        Ok(()) => {
            let place = settings.artifacts.url.clone();
            let place = place.unwrap_or_else(|| data_dir.join("artifacts").display().to_string());
            finding.detail = format!("can be written: {place}");
        }
        Err(error) => {
            let text = crate::failure::chain(&error);
            finding.ok = false;
            finding.fix = Some(artifacts_fix(&text));
            finding.detail = text;
        }
    }
    finding
}

/// What mends a store of artifacts that refused, by its words.
fn artifacts_fix(error: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["NoSuchBucket"]) {
        "make the bucket that artifacts.url names, or name another"
    } else if has(&["AssumeRoleWithWebIdentity"]) {
        "the token service does not give keys: let the role in AWS_ROLE_ARN be assumed with the token in AWS_WEB_IDENTITY_TOKEN_FILE (its trust policy), and see that AWS_REGION or AWS_ENDPOINT_URL_STS names the right service"
    } else if has(&["read token file"]) {
        "let the server read the file that AWS_WEB_IDENTITY_TOKEN_FILE names"
    } else if has(&["169.254.169.254", "instance metadata"]) {
        "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, for the server"
    } else if has(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401"]) {
        "the credentials are wrong or have ended: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the server"
    } else if has(&["AccessDenied", "403"]) {
        "let the server's role do s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket there"
    } else if has(&["redirect", "AuthorizationHeaderMalformed"]) {
        "set artifacts.region to the bucket's region"
    } else if has(&["error sending request", "connect", "dns"]) {
        "see that artifacts.endpoint is right and answers from the server's machine"
    } else {
        "see the section artifacts in 'asgard config show', and docs/storage.md"
    }
    .to_owned()
}

/// Tries the database and the artifacts; true when a running server holds them.
async fn store(context: &Context<'_>, settings: &Settings, findings: &mut Vec<Finding>) -> bool {
    let mut held = false;
    let mut finding = Finding {
        area: "store",
        name: "database".to_owned(),
        ok: true,
        detail: String::new(),
        fix: None,
    };
    match up::data_dir(settings, context.surroundings) {
        Err(failure) => {
            finding.ok = false;
            finding.detail = failure.message().to_owned();
            finding.fix = failure.help_text().map(str::to_owned);
        }
        // Trying must not make a directory that nobody asked for.
        Ok(dir) if settings.database.url.is_none() && !dir.join(db::SQLITE_FILE).exists() => {
            finding.detail = format!("{} is made by 'asgard up'", dir.display());
        }
        Ok(dir) => match db::Db::open(&settings.database, &dir).await {
            Ok(db) => {
                db.close().await;
                let place = settings.database.display_url();
                let place = place.unwrap_or_else(|| dir.display().to_string());
                finding.detail = format!("opens: {place}");
            }
            Err(db::Error::Locked { path, .. }) => {
                held = true;
                finding.detail = format!("{} is held by a running server", path.display());
                finding.fix = Some("that server listens elsewhere: name it by --url".to_owned());
            }
            Err(error) => {
                finding.ok = false;
                finding.detail = crate::failure::chain(&error);
                finding.fix = Some("see database.url in 'asgard config show'".to_owned());
            }
        },
    }
    findings.push(finding);
    if !held && let Ok(dir) = up::data_dir(settings, context.surroundings) {
        findings.push(artifacts(settings, &dir).await);
    }
    held
}

/// Looks at this machine, as no server does it.
async fn examine(context: &Context<'_>, settings: &Settings) -> anyhow::Result<Value> {
    let sandbox = Sandbox::detect(&settings.sandbox).await?;
    let data_dir = up::data_dir(settings, context.surroundings)?;
    let environments =
        Environments::open(&settings.environments, &data_dir, sandbox.clone()).await?;
    let examined = Examined {
        sandbox,
        environments,
        keep_logs_days: settings.jobs.keep_logs_days,
    };
    Ok(json!(examined.examine().await))
}

/// A mechanism that is missing is no fault while a weaker one works.
fn mechanisms(machine: &Value, findings: &mut Vec<Finding>) {
    let level = machine["isolation"].as_str().unwrap_or("unknown");
    findings.push(Finding {
        area: "sandbox",
        name: "isolation".to_owned(),
        ok: level != "none",
        detail: level.to_owned(),
        fix: None,
    });
    for area in ["sandbox", "environments", "storage"] {
        for found in machine[area].as_array().into_iter().flatten() {
            let text = |key: &str| found[key].as_str().map(str::to_owned);
            let available = found["available"] == true;
            findings.push(Finding {
                area,
                name: text("name").unwrap_or_default(),
                ok: available || (area == "sandbox" && level != "none"),
                detail: match text("detail") {
                    Some(detail) if available => detail,
                    detail => format!("missing: {}", detail.unwrap_or_default()),
                },
                fix: text("fix"),
            });
        }
    }
}

fn print(findings: &[Finding], args: &LocalArgs) -> anyhow::Result<()> {
    let output = args.remote.output;
    if output.format() == Format::Table {
        for finding in findings {
            let sign = match finding {
                Finding { ok: false, .. } => "✗",
                Finding { fix: Some(_), .. } => "!",
                _ => "✓",
            };
            line(&format!(
                "{sign} {} {}: {}",
                finding.area, finding.name, finding.detail
            ))?;
            if let Some(fix) = &finding.fix {
                line(&format!("  help: {fix}"))?;
            }
        }
        return Ok(());
    }
    let items: Vec<Value> = findings
        .iter()
        .map(|f| json!({"area": f.area, "name": f.name, "ok": f.ok, "detail": f.detail, "fix": f.fix}))
        .collect();
    let columns = [
        ("area", "/area"),
        ("name", "/name"),
        ("ok", "/ok"),
        ("detail", "/detail"),
        ("fix", "/fix"),
    ];
    Ok(output.list(&json!({ "findings": items }), &items, &columns)?)
}

#[cfg(test)]
mod tests {
    use super::artifacts_fix;

    #[test]
    fn a_refusal_of_the_bucket_has_a_fix_of_its_own() {
        for (error, fix) in [
            ("<Code>NoSuchBucket</Code>", "make the bucket"),
            (
                "http://169.254.169.254/latest/api/token",
                "AWS_ACCESS_KEY_ID",
            ),
            (
                "403 Forbidden: <Code>SignatureDoesNotMatch</Code>",
                "credentials are wrong",
            ),
            ("403 Forbidden: <Code>AccessDenied</Code>", "s3:PutObject"),
            ("error sending request", "artifacts.endpoint"),
            ("No space left on device", "config show"),
        ] {
            assert!(artifacts_fix(error).contains(fix), "{error}");
        }
    }
}
