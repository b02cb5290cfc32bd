//! The kinds of models that can be asked for by name.

/// A library of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framework {
    Sklearn,
    Xgboost,
    Lightgbm,
}

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Classes,
    Numbers,
}

/// What has to be done to the numbers before a model can take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It takes missing values as they are.
    Nothing,
    /// Missing values are filled.
    Filled,
    /// They are filled, and brought to one scale.
    Scaled,
}

/// A kind of model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimator {
    pub(crate) framework: Framework,
    pub(crate) class: &'static str,
    pub(crate) module: &'static str,
    pub(crate) task: Task,
    pub(crate) needs: Needs,
}

impl Framework {
    pub(crate) const ALL: [(Self, &'static str); 3] = [
        (Self::Sklearn, "sklearn"),
        (Self::Xgboost, "xgboost"),
        (Self::Lightgbm, "lightgbm"),
    ];

    /// Reads the name of a framework.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = if name == "scikit-learn" {
            "sklearn"
        } else {
            &name
        };
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(f, _)| *f == self)
            .map_or("", |(_, n)| n)
    }

    /// What its scripts have installed.
    pub(crate) fn requirements(self) -> Vec<&'static str> {
        match self {
            Self::Sklearn => vec!["pandas", "scikit-learn"],
            Self::Xgboost => vec!["pandas", "scikit-learn", "xgboost"],
            Self::Lightgbm => vec!["lightgbm", "pandas", "scikit-learn"],
        }
    }
}

const fn of(
    framework: Framework,
    class: &'static str,
    module: &'static str,
    task: Task,
    needs: Needs,
) -> Estimator {
    Estimator {
        framework,
        class,
        module,
        task,
        needs,
    }
}

const ESTIMATORS: &[Estimator] = {
    use Framework::{Lightgbm, Sklearn, Xgboost};
    use Needs::{Filled, Nothing, Scaled};
    use Task::{Classes, Numbers};
    &[
        of(
            Sklearn,
            "RandomForestClassifier",
            "sklearn.ensemble",
            Classes,
            Nothing,
        ),
        of(
            Sklearn,
            "RandomForestRegressor",
            "sklearn.ensemble",
            Numbers,
            Nothing,
        ),
        of(
            Sklearn,
            "ExtraTreesClassifier",
            "sklearn.ensemble",
            Classes,
            Filled,
        ),
        of(
            Sklearn,
            "ExtraTreesRegressor",
            "sklearn.ensemble",
            Numbers,
            Filled,
        ),
        of(
            Sklearn,
            "GradientBoostingClassifier",
            "sklearn.ensemble",
            Classes,
            Filled,
        ),
        of(
            Sklearn,
            "GradientBoostingRegressor",
            "sklearn.ensemble",
            Numbers,
            Filled,
        ),
        of(
            Sklearn,
            "HistGradientBoostingClassifier",
            "sklearn.ensemble",
            Classes,
            Nothing,
        ),
        of(
            Sklearn,
            "HistGradientBoostingRegressor",
            "sklearn.ensemble",
            Numbers,
            Nothing,
        ),
        of(
            Sklearn,
            "DecisionTreeClassifier",
            "sklearn.tree",
            Classes,
            Nothing,
        ),
        of(
            Sklearn,
            "DecisionTreeRegressor",
            "sklearn.tree",
            Numbers,
            Nothing,
        ),
        of(
            Sklearn,
            "LogisticRegression",
            "sklearn.linear_model",
            Classes,
            Scaled,
        ),
        of(
            Sklearn,
            "LinearRegression",
            "sklearn.linear_model",
            Numbers,
            Filled,
        ),
        of(Sklearn, "Ridge", "sklearn.linear_model", Numbers, Scaled),
        of(Sklearn, "Lasso", "sklearn.linear_model", Numbers, Scaled),
        of(
            Sklearn,
            "ElasticNet",
            "sklearn.linear_model",
            Numbers,
            Scaled,
        ),
        of(
            Sklearn,
            "KNeighborsClassifier",
            "sklearn.neighbors",
            Classes,
            Scaled,
        ),
        of(
            Sklearn,
            "KNeighborsRegressor",
            "sklearn.neighbors",
            Numbers,
            Scaled,
        ),
        of(
            Sklearn,
            "GaussianNB",
            "sklearn.naive_bayes",
            Classes,
            Filled,
        ),
        of(Sklearn, "SVC", "sklearn.svm", Classes, Scaled),
        of(Sklearn, "SVR", "sklearn.svm", Numbers, Scaled),
        of(
            Sklearn,
            "MLPClassifier",
            "sklearn.neural_network",
            Classes,
            Scaled,
        ),
        of(
            Sklearn,
            "MLPRegressor",
            "sklearn.neural_network",
            Numbers,
            Scaled,
        ),
        of(Xgboost, "XGBClassifier", "xgboost", Classes, Nothing),
        of(Xgboost, "XGBRegressor", "xgboost", Numbers, Nothing),
        of(Lightgbm, "LGBMClassifier", "lightgbm", Classes, Nothing),
        of(Lightgbm, "LGBMRegressor", "lightgbm", Numbers, Nothing),
    ]
};

impl Estimator {
    /// Finds a kind of model: its class (`RandomForestClassifier`), the same in small letters
    /// (`random_forest_classifier`), or `classifier` and `regressor` where there is one of each.
    pub(crate) fn find(framework: Framework, name: &str) -> Option<Self> {
        let plain = |text: &str| text.replace(['_', '-', ' '], "").to_ascii_lowercase();
        let mut all = ESTIMATORS.iter().filter(|e| e.framework == framework);
        let wanted = plain(name);
        let short = |class: &str| {
            let class = plain(class);
            framework != Framework::Sklearn && class.ends_with(&wanted) && wanted.len() > 8
        };
        all.find(|e| plain(e.class) == wanted || short(e.class))
            .copied()
    }

    /// The kinds of a framework, as they are asked for.
    pub(crate) fn names(framework: Framework) -> Vec<&'static str> {
        let all = ESTIMATORS.iter().filter(|e| e.framework == framework);
        all.map(|e| e.class).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_class_or_in_small_letters() {
        let class = |framework, name| Estimator::find(framework, name).map(|e| e.class);
        let forest = Some("RandomForestClassifier");
        assert_eq!(class(Framework::Sklearn, "RandomForestClassifier"), forest);
        assert_eq!(
            class(Framework::Sklearn, "random_forest_classifier"),
            forest
        );
        assert_eq!(
            class(Framework::Xgboost, "classifier"),
            Some("XGBClassifier")
        );
        assert_eq!(
            class(Framework::Lightgbm, "lgbm_regressor"),
            Some("LGBMRegressor")
        );
        assert_eq!(class(Framework::Sklearn, "classifier"), None);
        assert_eq!(class(Framework::Xgboost, "r"), None);
    }
}
