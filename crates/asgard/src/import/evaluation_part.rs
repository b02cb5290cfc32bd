//! The part of an import that is about judging applications: evaluation datasets, scorers, and
//! what traces are linked to.

use tracking::import::PairKind;

use super::report::Kind;
use super::{Import, take};

impl Import {
    pub(super) async fn evaluation(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("evaluation datasets");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .evaluation_datasets(async |list| {
                let write = tracking.import_evaluation_datasets(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.pairs("evaluation dataset tags", PairKind::EvaluationDatasetTag)
            .await?;
        let mut kind = Kind::of("evaluation records");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .evaluation_records(async |list| {
                let write = tracking.import_evaluation_records(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        let mut kind = Kind::of("uses of evaluation datasets");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .dataset_uses(async |list| {
                let write = tracking.import_dataset_uses(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        self.scorers().await?;
        self.trace_links().await
    }

    async fn scorers(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("scorers");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .scorers(async |list| {
                let write = tracking.import_scorers(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        Ok(())
    }

    async fn trace_links(&mut self) -> anyhow::Result<()> {
        let mut kind = Kind::of("links of traces");
        let (tracking, dry_run) = (&self.tracking, self.dry_run);
        self.source
            .trace_links(async |list| {
                let write = tracking.import_trace_links(&list);
                take(&mut kind, dry_run, list.len(), write).await?;
                anyhow::Ok(())
            })
            .await?;
        self.add(kind);
        let others = self.source.other_links().await?;
        let why = "asgard has no place for them";
        self.report.leave("links of other kinds", others, why);
        Ok(())
    }
}
