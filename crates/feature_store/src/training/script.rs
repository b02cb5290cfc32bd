//! The text of a training script.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::estimator::{Estimator, Framework, Needs, Task};
use super::plan::TrainingPlan;
use super::python::literal;

/// Writes the script. All that a caller named stands in literals only.
pub(crate) fn write(plan: &TrainingPlan) -> String {
    let mut script = String::new();
    head(&mut script, plan);
    constants(&mut script, plan);
    script.push_str(READ);
    body(&mut script, plan);
    script
}

// Writing to a text cannot fail.
macro_rules! line {
    ($script:expr, $($part:tt)*) => { let _ = writeln!($script, $($part)*); };
}

fn head(script: &mut String, plan: &TrainingPlan) {
    let Estimator { class, module, .. } = plan.estimator;
    line!(
        script,
        "\"\"\"Trains a {class} on features of asgard's feature store."
    );
    script.push_str(
        "
Made by POST /mlops/models. It reads the snapshots that are named below: running it again reads the
same rows, whatever has been added to the tables since.
\"\"\"

import io
import json
import os
import urllib.error
import urllib.request

import mlflow
import pandas as pd
from mlflow.models import infer_signature
",
    );
    let mut imports = vec![("sklearn.model_selection", "train_test_split")];
    if plan.split.by_time {
        imports.clear();
    }
    imports.extend(plan.metrics.iter().map(|m| ("sklearn.metrics", m.function)));
    imports.push((module, class));
    for step in steps(plan) {
        imports.push(step.import);
    }
    if !plan.texts.is_empty() {
        imports.push(("sklearn.compose", "make_column_transformer"));
        imports.push(("sklearn.preprocessing", "OneHotEncoder"));
    }
    if is_pipeline(plan) {
        imports.push(("sklearn.pipeline", "make_pipeline"));
    }
    imports.sort_unstable();
    imports.dedup();
    for group in imports.chunk_by(|a, b| a.0 == b.0) {
        let names: Vec<&str> = group.iter().map(|(_, name)| *name).collect();
        line!(script, "from {} import {}", group[0].0, names.join(", "));
    }
}

struct Step {
    import: (&'static str, &'static str),
    call: &'static str,
}

/// What is done to the numbers first.
fn steps(plan: &TrainingPlan) -> Vec<Step> {
    let fill = Step {
        import: ("sklearn.impute", "SimpleImputer"),
        call: "SimpleImputer(strategy=\"median\", keep_empty_features=True)",
    };
    let scale = Step {
        import: ("sklearn.preprocessing", "StandardScaler"),
        call: "StandardScaler()",
    };
    match plan.estimator.needs {
        Needs::Nothing => vec![],
        Needs::Filled => vec![fill],
        Needs::Scaled => vec![fill, scale],
    }
}

fn is_pipeline(plan: &TrainingPlan) -> bool {
    plan.estimator.needs != Needs::Nothing || !plan.texts.is_empty()
}

fn constants(script: &mut String, plan: &TrainingPlan) {
    line!(
        script,
        "\n# What is asked of the feature store (POST /feast/historical)."
    );
    line!(script, "QUESTION = {}", literal(&plan.question));
    line!(script, "NUMBERS = {}", literal(&json!(plan.numbers)));
    if !plan.texts.is_empty() {
        line!(script, "TEXTS = {}", literal(&json!(plan.texts)));
    }
    line!(script, "TARGET = {}", literal(&json!(plan.target)));
    let hyperparameters = Value::Object(plan.hyperparameters.clone());
    line!(script, "HYPERPARAMETERS = {}", literal(&hyperparameters));
    line!(script, "SNAPSHOTS = {}\n", literal(&json!(plan.snapshots)));
}

const READ: &str = r#"
def read_features():
    """The entity rows with the features that were known at their times."""
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"].rstrip("/") + "/feast/historical",
        data=json.dumps(QUESTION).encode(),
        headers={"Content-Type": "application/json"},
    )
    if "MLFLOW_TRACKING_TOKEN" in os.environ:
        request.add_header("Authorization", "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"])
    try:
        with urllib.request.urlopen(request) as answer:
            return pd.read_parquet(io.BytesIO(answer.read()))
    except urllib.error.HTTPError as refused:
        raise SystemExit("the features cannot be read: " + refused.read().decode()) from None


"#;

fn body(script: &mut String, plan: &TrainingPlan) {
    script.push_str("table = read_features().dropna(subset=[TARGET])\n");
    script.push_str("if len(table) < 2:\n");
    script.push_str("    raise SystemExit(f\"only {len(table)} rows have a value of {TARGET}\")\n");
    let inputs = if plan.texts.is_empty() {
        "table[NUMBERS].astype(\"float64\")"
    } else {
        "table[NUMBERS].astype(\"float64\").join(table[TEXTS].astype(\"object\"))"
    };
    if plan.split.by_time {
        let time = literal(&json!(plan.time));
        line!(script, "table = table.sort_values({time}, kind=\"stable\")");
    }
    line!(script, "X, y = {inputs}, table[TARGET]");
    if plan.estimator.framework == Framework::Xgboost && plan.estimator.task == Task::Classes {
        script.push_str(
            "if (y.astype(float) % 1 != 0).any():\n    raise SystemExit(f\"column {TARGET!r} holds numbers that are no classes: XGBoost wants 0, 1, 2, ...\")\ny = y.astype(int)\n",
        );
    }
    split(script, plan);
    model(script, plan);
    fit(script, plan);
}

fn split(script: &mut String, plan: &TrainingPlan) {
    let size = plan.split.test_size;
    if plan.split.by_time {
        line!(script, "# The latest rows are held back.");
        line!(script, "held_back = max(1, round(len(X) * {size}))");
        line!(script, "X_train, X_test = X[:-held_back], X[-held_back:]");
        line!(script, "y_train, y_test = y[:-held_back], y[-held_back:]");
        return;
    }
    let stratify = if plan.split.stratify {
        ", stratify=y"
    } else {
        ""
    };
    let state = plan.split.random_state;
    line!(
        script,
        "X_train, X_test, y_train, y_test = train_test_split("
    );
    line!(
        script,
        "    X, y, test_size={size}, random_state={state}{stratify}"
    );
    line!(script, ")");
}

fn model(script: &mut String, plan: &TrainingPlan) {
    let call = format!("{}(**HYPERPARAMETERS)", plan.estimator.class);
    let calls: Vec<&str> = steps(plan).iter().map(|step| step.call).collect();
    script.push('\n');
    if !is_pipeline(plan) {
        line!(script, "model = {call}");
    } else if plan.texts.is_empty() {
        line!(
            script,
            "model = make_pipeline({}, {call})",
            calls.join(", ")
        );
    } else {
        let numbers = match calls.as_slice() {
            [] => "\"passthrough\"".to_owned(),
            [one] => (*one).to_owned(),
            several => format!("make_pipeline({})", several.join(", ")),
        };
        line!(script, "prepare = make_column_transformer(");
        line!(script, "    ({numbers}, NUMBERS),");
        line!(
            script,
            "    (OneHotEncoder(handle_unknown=\"ignore\", sparse_output=False), TEXTS),"
        );
        line!(script, ")");
        line!(script, "model = make_pipeline(prepare, {call})");
    }
}

fn fit(script: &mut String, plan: &TrainingPlan) {
    script.push_str("with mlflow.start_run():\n");
    script.push_str("    mlflow.log_params(HYPERPARAMETERS)\n");
    script.push_str(
        "    mlflow.log_params({f\"snapshot.{name}\": id for name, id in SNAPSHOTS.items()})\n",
    );
    script.push_str("    model.fit(X_train, y_train)\n");
    script.push_str("    predicted = model.predict(X_test)\n");
    if plan.metrics.iter().any(|m| m.of_probabilities()) {
        script.push_str("    probabilities = model.predict_proba(X_test)\n");
    }
    script.push_str("    metrics = {\n");
    for metric in &plan.metrics {
        line!(script, "        \"{}\": {},", metric.name, metric.call);
    }
    script.push_str("    }\n");
    script.push_str("    metrics.update(rows=len(table), test_rows=len(X_test))\n");
    script.push_str("    mlflow.log_metrics(metrics)\n");
    let flavor = if is_pipeline(plan) {
        Framework::Sklearn
    } else {
        plan.estimator.framework
    };
    line!(script, "    mlflow.{}.log_model(", flavor.name());
    script.push_str("        model,\n        \"model\",\n");
    script.push_str("        signature=infer_signature(X_train, predicted),\n");
    script.push_str("        input_example=X_train.head(5),\n");
    if flavor == Framework::Sklearn {
        // MLflow's default refuses models of other libraries inside a pipeline.
        script.push_str("        serialization_format=\"cloudpickle\",\n");
    }
    script.push_str("    )\n");
    script.push_str("print(metrics)\n");
}
