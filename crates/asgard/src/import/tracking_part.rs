//! The part of an import that goes to tracking.

use tracking::Tracking;
use tracking::import::{ImportedPair, PairKind};

use super::files::Copier;
use super::place::moved;
use super::report::Kind;
use super::{Import, take};

/// The tag that says where a trace's spans are.
const LOCATION_TAG: &str = "mlflow.artifactLocation";

impl Import {
    pub(super) async fn experiments(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("experiments");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .experiments(async |mut list| {
                for experiment in &mut list {
                    let home = &experiment.experiment_id;
                    experiment.artifact_location = moved(&experiment.artifact_location, home).uri;
                }
                let write = tracking.import_experiments(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.pairs("experiment tags", PairKind::ExperimentTag).await
    }

    pub(super) async fn runs(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("runs");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .runs(async |mut list| {
                for run in &mut list {
                    let home = run_home(&run.experiment_id, &run.run_id);
                    run.artifact_uri = moved(&run.artifact_uri, &home).uri;
                }
                let write = tracking.import_runs(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.pairs("params", PairKind::Param).await?;
        self.pairs("run tags", PairKind::RunTag).await
    }

    pub(super) async fn pairs(
        &mut self,
        name: &'static str,
        which: PairKind,
    ) -> anyhow::Result<()> {
        let mut kind = Kind::of(name);
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .pairs(which, async |mut list| {
                if which == PairKind::TraceTag && !dry_run {
                    place_traces(tracking, &mut list).await?;
                }
                let write = tracking.import_pairs(which, &list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        Ok(())
    }

    pub(super) async fn metrics(&mut self) -> anyhow::Result<()> {
        for (name, latest) in [("metric points", false), ("latest metrics", true)] {
            let mut kind = Kind::of(name);
            let (tracking, dry_run) = (&self.tracking, self.dry_run);
            self.source
                .metrics(latest, async |list| {
                    let write = tracking.import_metrics(&list);
                    take(&mut kind, dry_run, list.len(), write).await?;
                    anyhow::Ok(())
                })
                .await?;
            self.add(kind);
        }
        Ok(())
    }

    pub(super) async fn datasets(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("datasets");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .datasets(async |list| {
                let write = tracking.import_datasets(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        for (name, tags) in [("dataset inputs", false), ("dataset input tags", true)] {
            let mut kind = Kind::of(name);
            let (tracking, dry_run) = (&self.tracking, self.dry_run);
            self.source
                .inputs(tags, async |list| {
                    let write = tracking.import_inputs(&list);
                    take(&mut kind, dry_run, list.len(), write).await?;
                    anyhow::Ok(())
                })
                .await?;
            self.add(kind);
        }
        Ok(())
    }

    pub(super) async fn logged_models(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("logged models");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .logged_models(async |mut list| {
                for model in &mut list {
                    let home = model_home(&model.experiment_id, &model.model_id);
                    model.artifact_uri = moved(&model.artifact_uri, &home).uri;
                }
                let write = tracking.import_logged_models(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.pairs("logged model params", PairKind::LoggedModelParam)
            .await?;
        self.pairs("logged model tags", PairKind::LoggedModelTag)
            .await?;
        let mut kind = Kind::of("logged model metrics");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .model_metrics(async |list| {
                let write = tracking.import_model_metrics(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        let mut kind = Kind::of("models read and made");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .model_links(async |list| {
                let write = tracking.import_model_links(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        Ok(())
    }

    pub(super) async fn traces(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("traces");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .traces(async |list| {
                let write = tracking.import_traces(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.pairs("trace tags", PairKind::TraceTag).await?;
        self.pairs("trace metadata", PairKind::TraceMetadata)
            .await?;
        self.spans().await?;
        let mut kind = Kind::of("assessments");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .assessments(async |list| {
                let write = tracking.import_assessments(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        Ok(())
    }

    async fn spans(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("spans");
        let mut unread = 0;
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .spans(async |list| {
                let found = list.len();
                let list: Vec<_> = list.into_iter().flatten().collect();
                unread += (found - list.len()) as u64;
                let write = tracking.import_spans(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        let why = "their content is none that this version reads";
        self.report.leave("spans", unread, why);
        self.add(kind);
        Ok(())
    }

    /// Copies the files of every run, logged model and trace.
    pub(super) async fn copy_files(&mut self, copier: &mut Copier<'_>) -> anyhow::Result<()> {
        let report = &mut self.report;
        self.source
            .runs(async |list| {
                for run in list {
                    let home = run_home(&run.experiment_id, &run.run_id);
                    let place = moved(&run.artifact_uri, &home);
                    copier
                        .copy(&place.from, &place.uri, &run.run_id, report)
                        .await?;
                }
                anyhow::Ok(())
            })
            .await?;
        self.source
            .logged_models(async |list| {
                for model in list {
                    let home = model_home(&model.experiment_id, &model.model_id);
                    let place = moved(&model.artifact_uri, &home);
                    copier
                        .copy(&place.from, &place.uri, &model.model_id, report)
                        .await?;
                }
                anyhow::Ok(())
            })
            .await?;
        let tracking = &self.tracking;
        self.source
            .pairs(PairKind::TraceTag, async |list| {
                for tag in list.into_iter().filter(|tag| tag.key == LOCATION_TAG) {
                    let home = trace_home(tracking, &tag.owner).await?.unwrap_or_default();
                    let place = moved(&tag.value, &home);
                    copier
                        .copy(&place.from, &place.uri, &tag.owner, report)
                        .await?;
                }
                anyhow::Ok(())
            })
            .await
    }

    pub(super) fn add(&mut self, kind: Kind) {
        let orphans = kind.left;
        self.report.add(kind, orphans);
    }
}

fn run_home(experiment_id: &str, run_id: &str) -> String {
    format!("{experiment_id}/{run_id}/artifacts")
}

fn model_home(experiment_id: &str, model_id: &str) -> String {
    format!("{experiment_id}/models/{model_id}/artifacts")
}

/// Where the spans of a trace belong; `None` when there is no such trace here.
async fn trace_home(tracking: &Tracking, trace_id: &str) -> anyhow::Result<Option<String>> {
    match tracking.get_trace(trace_id).await {
        Ok(trace) => {
            let experiment_id = trace.experiment_id;
            Ok(Some(format!("{experiment_id}/traces/{trace_id}/artifacts")))
        }
        Err(tracking::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the tags that say where spans are say where they are here.
async fn place_traces(tracking: &Tracking, tags: &mut [ImportedPair]) -> anyhow::Result<()> {
    for tag in tags.iter_mut().filter(|tag| tag.key == LOCATION_TAG) {
        if let Some(home) = trace_home(tracking, &tag.owner).await? {
            tag.value = moved(&tag.value, &home).uri;
        }
    }
    Ok(())
}
