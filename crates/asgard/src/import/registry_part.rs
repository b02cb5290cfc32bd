//! The part of an import that goes to the registry.

use registry::ModelVersion;
use tracking::{Location, Owner, Tracking};

use super::place::{moved, owner};
use super::report::Kind;
use super::{Import, take};

/// The words that MLflow's clients give as the source of a prompt.
const NO_FILES: [&str; 2] = ["dummy-source", "prompt-template"];

impl Import {
    pub(super) async fn models(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("registered models");
        let (registry, dry_run) = (&self.registry, self.dry_run);
        self.source
            .models(async |list| {
                let write = registry.import_models(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.model_tags("registered model tags", false).await
    }

    pub(super) async fn versions(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("model versions");
        let (registry, tracking, dry_run) = (&self.registry, &self.tracking, self.dry_run);
        let report = &mut self.report;
        self.source
            .versions(async |list| {
                let mut versions = Vec::new();
                for row in list {
                    let mut version = row.version;
                    if row.deleted {
                        if !dry_run {
                            let (name, number) = (&version.name, version.version);
                            registry.import_last_version(name, number).await?;
                        }
                        continue;
                    }
                    if !row.status.is_empty() && row.status != "READY" {
                        let why = format!("the status {} became READY, which all versions have here", row.status);
                        report.leave("states of model versions", 1, why);
                    }
                    if !settle(tracking, &mut version).await? && !dry_run {
                        let why = "they are at a path that belongs to no run or logged model that came over; the version itself was taken";
                        report.leave("files of model versions", 1, why);
                    }
                    versions.push(version);
                }
                let write = registry.import_versions(&versions);
                take(&mut kind, dry_run, versions.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.model_tags("model version tags", true).await?;
        let mut kind = Kind::of("aliases");
        let registry = &self.registry;
        self.source
            .aliases(async |list| {
                let write = registry.import_aliases(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        Ok(())
    }

    async fn model_tags(&mut self, name: &'static str, of_versions: bool) -> anyhow::Result<()> {
        let mut kind = Kind::of(name);
        let (registry, dry_run) = (&self.registry, self.dry_run);
        self.source
            .model_tags(of_versions, async |list| {
                let write = registry.import_tags(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        // The tags of deleted versions stay in MLflow's tables; they are nobody's.
        let orphans = if of_versions { 0 } else { kind.left };
        self.report.add(kind, orphans);
        Ok(())
    }
}

/// Makes a version's location the place that its files have here; false when nobody knows it.
async fn settle(tracking: &Tracking, version: &mut ModelVersion) -> anyhow::Result<bool> {
    if NO_FILES.contains(&version.source.as_str()) {
        return Ok(true);
    }
    let place = match owner(&version.location) {
        None => None,
        Some((Owner::Run(id), below)) => match tracking.get_run(&id).await {
            Ok(run) => Some((run.artifact_uri, below)),
            Err(tracking::Error::RunNotFound(_)) => None,
            Err(error) => return Err(error.into()),
        },
        Some((Owner::LoggedModel(id), below)) => match tracking.get_logged_model(&id).await {
            Ok(model) => {
                version.model_id.get_or_insert(id);
                Some((model.artifact_uri, below))
            }
            Err(tracking::Error::LoggedModelNotFound(_)) => None,
            Err(error) => return Err(error.into()),
        },
        Some((Owner::Trace(_), _)) => None,
    };
    match place {
        Some((root, below)) => {
            version.location = match Location::parse_uri(&root) {
                Ok(root) => root.join(&below)?.uri(),
                Err(_) => format!("{}/{below}", root.trim_end_matches('/')),
            };
            Ok(true)
        }
        // What clients read by themselves stays as it is.
        None => {
            let stays = moved(&version.location, "x");
            Ok(stays.uri == version.location && !version.location.starts_with('/'))
        }
    }
}
