//! Evaluation datasets, scorers and links of traces of another server.

use std::collections::{BTreeMap, HashSet};

use db::{Conn, Error, Value};

use super::{insert_new, number, present};
use crate::evaluation_record::imported;
use crate::import::{
    ImportedDatasetUse, ImportedEvaluationDataset, ImportedRecord, ImportedScorer,
    ImportedTraceLink, Taken, ids,
};
use crate::store::evaluation_records;

pub(crate) async fn evaluation_datasets(
    conn: &mut Conn,
    datasets: &[ImportedEvaluationDataset],
) -> Result<Taken, Error> {
    let columns = [
        "dataset_id",
        "name",
        "digest",
        "schema",
        "profile",
        "created_time",
        "last_update_time",
        "created_by",
        "last_updated_by",
    ];
    let row = |d: &ImportedEvaluationDataset| {
        vec![
            Value::from(&d.dataset_id),
            Value::from(&d.name),
            Value::from(&d.digest),
            Value::from(&d.schema),
            Value::from(&d.profile),
            d.created_time.into(),
            d.last_update_time.into(),
            Value::from(&d.created_by),
            Value::from(&d.last_updated_by),
        ]
    };
    let rows = datasets.iter().map(row).collect();
    let new = insert_new(conn, "evaluation_datasets", &columns, rows).await?;
    Ok(Taken { new, orphans: 0 })
}

pub(crate) async fn dataset_uses(
    conn: &mut Conn,
    uses: &[ImportedDatasetUse],
) -> Result<Taken, Error> {
    let datasets = ids(uses, |u| &u.dataset_id);
    let datasets = present(conn, "evaluation_datasets", "dataset_id", datasets).await?;
    let experiments = ids(uses, |u| &u.experiment_id);
    let experiments = present(conn, "experiments", "experiment_id", experiments).await?;
    let kept = uses
        .iter()
        .filter(|u| datasets.contains(&u.dataset_id) && experiments.contains(&u.experiment_id));
    let row = |u: &ImportedDatasetUse| vec![Value::from(&u.dataset_id), number(&u.experiment_id)];
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (uses.len() - rows.len()) as u64;
    let columns = ["dataset_id", "experiment_id"];
    let new = insert_new(conn, "evaluation_dataset_experiments", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

/// Records come in the order in which their dataset lists them, and go behind those that are here.
pub(crate) async fn records(conn: &mut Conn, records: &[ImportedRecord]) -> Result<Taken, Error> {
    let datasets = ids(records, |r| &r.dataset_id);
    let datasets = present(conn, "evaluation_datasets", "dataset_id", datasets).await?;
    let here = ids(records, |r| &r.record_id);
    let here = present(conn, "evaluation_records", "record_id", here).await?;
    let mut taken = Taken::default();
    let mut of_dataset = BTreeMap::<&str, Vec<&ImportedRecord>>::new();
    for record in records {
        if !datasets.contains(&record.dataset_id) {
            taken.orphans += 1;
        } else if !here.contains(&record.record_id) {
            of_dataset
                .entry(&record.dataset_id)
                .or_default()
                .push(record);
        }
    }
    for (dataset_id, records) in of_dataset {
        let first = evaluation_records::next_position(conn, dataset_id).await?;
        let rows: Vec<_> = (first..)
            .zip(&records)
            .map(|(position, record)| {
                let record = imported(record, position);
                vec![
                    Value::from(dataset_id),
                    Value::from(&record.record_id),
                    position.into(),
                    Value::from(&record.inputs_hash),
                    evaluation_records::text(&record).into(),
                ]
            })
            .collect();
        let columns = [
            "dataset_id",
            "record_id",
            "position",
            "inputs_hash",
            "message",
        ];
        taken.new += insert_new(conn, "evaluation_records", &columns, rows).await?;
    }
    Ok(taken)
}

pub(crate) async fn scorers(conn: &mut Conn, scorers: &[ImportedScorer]) -> Result<Taken, Error> {
    let experiments = ids(scorers, |s| &s.experiment_id);
    let known = present(conn, "experiments", "experiment_id", experiments).await?;
    let row = |s: &ImportedScorer| {
        vec![
            number(&s.experiment_id),
            Value::from(&s.name),
            s.version.into(),
            Value::from(&s.scorer_id),
            Value::from(&s.serialized),
            s.created_time.into(),
        ]
    };
    let kept = scorers.iter().filter(|s| known.contains(&s.experiment_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (scorers.len() - rows.len()) as u64;
    let columns = [
        "experiment_id",
        "name",
        "version",
        "scorer_id",
        "serialized",
        "created_time",
    ];
    let new = insert_new(conn, "scorers", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn trace_links(
    conn: &mut Conn,
    links: &[ImportedTraceLink],
) -> Result<Taken, Error> {
    let known: HashSet<String> =
        present(conn, "traces", "trace_id", ids(links, |l| &l.trace_id)).await?;
    let row = |l: &ImportedTraceLink| {
        vec![
            Value::from(l.kind.as_str()),
            Value::from(&l.target),
            Value::from(&l.trace_id),
        ]
    };
    let kept = links.iter().filter(|l| known.contains(&l.trace_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (links.len() - rows.len()) as u64;
    let columns = ["kind", "target", "trace_id"];
    let new = insert_new(conn, "trace_links", &columns, rows).await?;
    Ok(Taken { new, orphans })
}
