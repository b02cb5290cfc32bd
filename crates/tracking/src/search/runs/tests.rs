use proptest::prelude::*;

use super::*;

fn plan(filter: &str) -> Result<Plan, Error> {
    RunSearch {
        experiment_ids: vec!["1".to_owned()],
        filter: filter.to_owned(),
        ..RunSearch::default()
    }
    .plan()
}

#[test]
fn every_prefix_has_its_aliases() {
    for filter in [
        "metric.a > 1",
        "metrics.a > 1",
        "param.a = '1'",
        "params.a = '1'",
        "parameter.a = '1'",
        "parameters.a = '1'",
        "tag.a = '1'",
        "tags.a = '1'",
        "attribute.status = 'x'",
        "attributes.status = 'x'",
        "attr.status = 'x'",
        "run.status = 'x'",
        "status = 'x'",
        "dataset.name = 'x'",
        "datasets.context IN ('x')",
        "created > 1",
        "Created > 1.5",
        "`Run name` LIKE 'x'",
        "run_id NOT IN ('x')",
        "tags.a IS NULL",
        "params.a IS NOT NULL",
    ] {
        assert_eq!(plan(filter).unwrap().conditions.len(), 1, "{filter}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for filter in [
        "metrics.a = '1'",
        "metrics.a LIKE '1'",
        "metrics.a IS NULL",
        "metrics.a IN ('1')",
        "params.a = 1",
        "params.a < '1'",
        "params.a IN ('1')",
        "tags.a > '1'",
        "status IS NULL",
        "status > 'a'",
        "status IN ('a')",
        "start_time = '1'",
        "start_time LIKE '1'",
        "experiment_id = '1'",
        "duration > 1",
        "lifecycle_stage = 'active'",
        "dataset.source = 'x'",
        "dataset.name IS NULL",
        "model.a = 'x'",
    ] {
        assert!(plan(filter).is_err(), "{filter}");
    }
}

#[test]
fn results_are_between_1_and_50000() {
    for (max_results, fits) in [
        (0, false),
        (1, true),
        (50_000, true),
        (50_001, false),
        (-1, false),
    ] {
        let search = RunSearch {
            max_results: Some(max_results),
            ..RunSearch::default()
        };
        assert_eq!(search.plan().is_ok(), fits, "{max_results}");
    }
}

#[test]
fn a_key_is_sorted_by_once() {
    let keys =
        |clauses: &[&str]| sort_keys(&clauses.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
    assert_eq!(keys(&["metrics.a DESC", "run_name"]).unwrap().len(), 2);
    assert!(keys(&["metrics.a", "metric.a DESC"]).is_err());
    assert!(keys(&["duration"]).is_err());
    assert!(keys(&["dataset.name"]).is_err());
}

proptest! {
    #[test]
    fn no_filter_panics(filter in ".*", order in ".*") {
        let _ = plan(&filter);
        let _ = sort_keys(&[order]);
    }
}
