//! The measures of a model that can be asked for by name.

use super::estimator::Task;

/// A measure of a model, with the Python that computes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) function: &'static str,
    task: Task,
    usual: bool,
    pub(crate) call: &'static str,
}

const fn metric(
    name: &'static str,
    function: &'static str,
    task: Task,
    usual: bool,
    call: &'static str,
) -> Metric {
    Metric {
        name,
        function,
        task,
        usual,
        call,
    }
}

const METRICS: &[Metric] = {
    use Task::{Classes, Numbers};
    &[
        metric(
            "accuracy",
            "accuracy_score",
            Classes,
            true,
            "accuracy_score(y_test, predicted)",
        ),
        metric(
            "precision",
            "precision_score",
            Classes,
            true,
            "precision_score(y_test, predicted, average=\"weighted\", zero_division=0)",
        ),
        metric(
            "recall",
            "recall_score",
            Classes,
            true,
            "recall_score(y_test, predicted, average=\"weighted\", zero_division=0)",
        ),
        metric(
            "f1",
            "f1_score",
            Classes,
            true,
            "f1_score(y_test, predicted, average=\"weighted\", zero_division=0)",
        ),
        metric(
            "roc_auc",
            "roc_auc_score",
            Classes,
            false,
            "roc_auc_score(y_test, probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities, multi_class=\"ovr\")",
        ),
        metric(
            "log_loss",
            "log_loss",
            Classes,
            false,
            "log_loss(y_test, probabilities, labels=model.classes_)",
        ),
        metric(
            "rmse",
            "mean_squared_error",
            Numbers,
            true,
            "mean_squared_error(y_test, predicted) ** 0.5",
        ),
        metric(
            "mae",
            "mean_absolute_error",
            Numbers,
            true,
            "mean_absolute_error(y_test, predicted)",
        ),
        metric(
            "r2",
            "r2_score",
            Numbers,
            true,
            "r2_score(y_test, predicted)",
        ),
        metric(
            "mse",
            "mean_squared_error",
            Numbers,
            false,
            "mean_squared_error(y_test, predicted)",
        ),
        metric(
            "mape",
            "mean_absolute_percentage_error",
            Numbers,
            false,
            "mean_absolute_percentage_error(y_test, predicted)",
        ),
    ]
};

impl Metric {
    /// The metrics of what a model predicts.
    pub(crate) fn all(task: Task) -> impl Iterator<Item = Self> {
        METRICS.iter().filter(move |m| m.task == task).copied()
    }

    /// Those that are taken when none are asked for.
    pub(crate) fn usual(task: Task) -> Vec<Self> {
        Self::all(task).filter(|m| m.usual).collect()
    }

    /// Whether it is computed from the probabilities of classes.
    pub(crate) fn of_probabilities(self) -> bool {
        self.call.contains("probabilities")
    }
}
