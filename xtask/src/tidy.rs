//! The structural rules that a test holds: the arrows between crates, SQL only in `store/`, one
//! file that reads the environment, and no name twice in the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the repository.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The one file of the product that reads environment variables.
const ENVIRONMENT_READER: &str = "crates/asgard/src/surroundings.rs";

/// Files that may read the environment although the product does not: they serve tests.
const TEST_SUPPORT: &[&str] = &["crates/db/src/testing.rs"];

/// All faults, one sentence each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let crates = crate_names(root)?;
    let architecture =
        fs::read_to_string(root.join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    let allowed = arrows_in(&architecture);
    let mut faults = Vec::new();
    for name in &crates {
        let manifest = fs::read_to_string(root.join("crates").join(name).join("Cargo.toml"))?;
        faults.extend(arrow_faults(name, &manifest, &crates, &allowed)?);
    }
    let mut described = BTreeMap::new();
    for path in rust_files(&root.join("crates"))? {
        let text = fs::read_to_string(&path)?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .replace('\\', "/");
        faults.extend(source_faults(&name, &text));
        for schema in schemas_in(&text) {
            if let Some(other) = described.insert(schema.clone(), name.clone()) {
                faults.push(format!(
                    "{name}: the OpenAPI document has one {schema}, and {other} describes another: give one of them its own name"
                ));
            }
        }
    }
    Ok(faults)
}

fn crate_names(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The arrows that ARCHITECTURE.md draws: the lines `name -> name, name` of its `arrows` block.
fn arrows_in(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let block = architecture
        .split("```arrows")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let lines = block.unwrap_or_default().lines();
    lines
        .filter_map(|line| line.split_once("->"))
        .map(|(from, to)| {
            let to = to
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty());
            (from.trim().to_owned(), to.collect())
        })
        .collect()
}

fn arrow_faults(
    name: &str,
    manifest: &str,
    crates: &BTreeSet<String>,
    allowed: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest
        .parse()
        .with_context(|| format!("reading the manifest of {name}"))?;
    let Some(allowed) = allowed.get(name) else {
        return Ok(vec![format!(
            "crate {name} is not among the arrows of ARCHITECTURE.md"
        )]);
    };
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let used = dependencies
        .into_iter()
        .flat_map(toml::Table::keys)
        .filter(|d| crates.contains(*d));
    let faults = used
        .filter(|dependency| !allowed.contains(*dependency))
        .map(|dependency| {
            format!("crate {name} uses {dependency}, an arrow that ARCHITECTURE.md does not draw")
        });
    Ok(faults.collect())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn source_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let product = name.contains("/src/") && !TEST_SUPPORT.contains(&name);
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    if product && !holds_sql_by_right(name) {
        for (number, line) in code.lines().enumerate() {
            if looks_like_sql(line) {
                faults.push(format!("{name}:{}: SQL belongs under store/", number + 1));
            }
        }
    }
    if product && name != ENVIRONMENT_READER {
        for (number, line) in code.lines().enumerate() {
            if ["env::var(", "env::vars(", "env::var_os(", "env::vars_os("]
                .iter()
                .any(|call| line.contains(call))
            {
                faults.push(format!(
                    "{name}:{}: only {ENVIRONMENT_READER} reads the environment",
                    number + 1
                ));
            }
        }
    }
    faults
}

/// The names that the types of a file have in the OpenAPI document, which is one for all crates.
fn schemas_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !line.starts_with("#[derive(") {
            continue;
        }
        let mut derives = line.to_owned();
        // A long list stands on several lines.
        while !derives.ends_with(")]") {
            let Some(more) = lines.next() else { break };
            derives.push_str(more);
        }
        if !derives.contains("ToSchema") {
            continue;
        }
        let mut alias = None;
        for line in lines.by_ref() {
            if line.starts_with("#[schema(")
                && let Some((_, name)) = line.split_once("as = ")
            {
                let end = name.find([',', ')']).unwrap_or(name.len());
                alias = Some(name[..end].to_owned());
            }
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_type = ["struct ", "enum ", "pub"]
                .iter()
                .any(|w| line.starts_with(w));
            if is_type && words.any(|word| word == "struct" || word == "enum") {
                names.extend(alias.take().or_else(|| words.next().map(str::to_owned)));
                break;
            }
        }
    }
    names
}

/// `db` is the ground that runs SQL; in a domain crate it lives under `store/` (a crate with a
/// single table may have the one file `store.rs`) and in the migrations.
fn holds_sql_by_right(name: &str) -> bool {
    name.starts_with("crates/db/")
        || name.contains("/src/store/")
        || name.ends_with("/src/store.rs")
        || name.contains("migrations")
}

fn looks_like_sql(line: &str) -> bool {
    if line.trim_start().starts_with("//") {
        return false;
    }
    let has = |a: &str, b: &str| line.find(a).is_some_and(|at| line[at..].contains(b));
    has("\"SELECT ", "")
        || has("\"INSERT INTO ", "")
        || has("\"DELETE FROM ", "")
        || has("\"UPDATE ", " SET ")
        || has("\"CREATE TABLE", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_structure() {
        let faults = check(Path::new(ROOT)).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_a_fault() {
        let crates = BTreeSet::from(["jobs".to_owned(), "tracking".to_owned()]);
        let allowed = arrows_in("text\n```arrows\njobs -> tracking\ntracking ->\n```\n");
        let up = "[dependencies]\njobs.workspace = true";
        assert_eq!(
            arrow_faults("tracking", up, &crates, &allowed)
                .unwrap()
                .len(),
            1
        );
        let down = "[dependencies]\ntracking.workspace = true";
        assert!(
            arrow_faults("jobs", down, &crates, &allowed)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_described_type_is_known_by_the_name_in_the_document() {
        let text = "#[derive(Debug, ToSchema)]\n/// A text.\n#[schema(as = Other)]\npub(crate) struct One {\n#[derive(ToSchema)]\n#[serde(x)]\nenum Two {\n#[derive(Debug)]\nstruct Three;\n";
        assert_eq!(schemas_in(text), ["Other", "Two"]);
        let wrapped = "#[derive(\n    Debug,\n    ToSchema,\n)]\n#[schema(title = \"x\", as = Four, example = 1)]\nstruct Five;\n";
        assert_eq!(schemas_in(wrapped), ["Four"]);
    }

    #[test]
    fn sql_and_environment_outside_their_rooms_are_faults() {
        assert_eq!(
            source_faults("crates/jobs/src/job.rs", "query(\"SELECT 1\")").len(),
            1
        );
        assert!(source_faults("crates/jobs/src/store/jobs.rs", "query(\"SELECT 1\")").is_empty());
        assert_eq!(
            source_faults("crates/jobs/src/job.rs", "std::env::var(\"X\")").len(),
            1
        );
        assert!(source_faults(ENVIRONMENT_READER, "std::env::var(\"X\")").is_empty());
    }
}
