//! Params, tags and metadata of another server, of whatever has them.

use std::collections::{HashMap, HashSet};

use db::{Conn, Error, Value};

use super::{insert_new, number, present, run_numbers};
use crate::import::{ImportedPair, PairKind, Taken, ids};

pub(crate) async fn pairs(
    conn: &mut Conn,
    kind: PairKind,
    pairs: &[ImportedPair],
) -> Result<Taken, Error> {
    let owners = ids(pairs, |pair| &pair.owner);
    let (table, column, owners): (_, _, HashMap<String, Value>) = match kind {
        PairKind::Param | PairKind::RunTag => {
            let numbers = run_numbers(conn, owners).await?.into_iter();
            let table = match kind {
                PairKind::Param => "params",
                _ => "tags",
            };
            (
                table,
                "run",
                numbers.map(|(id, n)| (id, n.into())).collect(),
            )
        }
        PairKind::ExperimentTag => {
            let known = present(conn, "experiments", "experiment_id", owners).await?;
            let known = known.into_iter().map(|id| (id.clone(), number(&id)));
            ("experiment_tags", "experiment_id", known.collect())
        }
        PairKind::LoggedModelParam | PairKind::LoggedModelTag => {
            let known = present(conn, "logged_models", "model_id", owners).await?;
            let table = match kind {
                PairKind::LoggedModelParam => "logged_model_params",
                _ => "logged_model_tags",
            };
            (table, "model_id", by_name(known))
        }
        PairKind::EvaluationDatasetTag => {
            let known = present(conn, "evaluation_datasets", "dataset_id", owners).await?;
            ("evaluation_dataset_tags", "dataset_id", by_name(known))
        }
        PairKind::TraceTag | PairKind::TraceMetadata => {
            let known = present(conn, "traces", "trace_id", owners).await?;
            let table = match kind {
                PairKind::TraceTag => "trace_tags",
                _ => "trace_metadata",
            };
            (table, "trace_id", by_name(known))
        }
    };
    let row = |pair: &ImportedPair| {
        let owner = owners.get(&pair.owner)?.clone();
        Some(vec![
            owner,
            Value::from(&pair.key),
            Value::from(&pair.value),
        ])
    };
    let rows: Vec<_> = pairs.iter().filter_map(row).collect();
    let orphans = (pairs.len() - rows.len()) as u64;
    let new = insert_new(conn, table, &[column, "key", "value"], rows).await?;
    Ok(Taken { new, orphans })
}

fn by_name(known: HashSet<String>) -> HashMap<String, Value> {
    let value = |id: String| (id.clone(), Value::from(id));
    known.into_iter().map(value).collect()
}
