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

/// A class, what it predicts and what it needs.
type Class = (&'static str, Task, Needs);

/// The classes of each module.
const MODULES: &[(Framework, &str, &[Class])] = {
    use Framework::{Lightgbm, Sklearn, Xgboost};
    use Needs::{Filled, Nothing, Scaled};
    use Task::{Classes, Numbers};
    &[
        (
            Sklearn,
            "sklearn.ensemble",
            &[
                ("RandomForestClassifier", Classes, Nothing),
                ("RandomForestRegressor", Numbers, Nothing),
                ("ExtraTreesClassifier", Classes, Filled),
                ("ExtraTreesRegressor", Numbers, Filled),
                ("GradientBoostingClassifier", Classes, Filled),
                ("GradientBoostingRegressor", Numbers, Filled),
                ("HistGradientBoostingClassifier", Classes, Nothing),
                ("HistGradientBoostingRegressor", Numbers, Nothing),
            ],
        ),
        (
            Sklearn,
            "sklearn.tree",
            &[
                ("DecisionTreeClassifier", Classes, Nothing),
                ("DecisionTreeRegressor", Numbers, Nothing),
            ],
        ),
        (
            Sklearn,
            "sklearn.linear_model",
            &[
                ("LogisticRegression", Classes, Scaled),
                ("LinearRegression", Numbers, Filled),
                ("Ridge", Numbers, Scaled),
                ("Lasso", Numbers, Scaled),
                ("ElasticNet", Numbers, Scaled),
            ],
        ),
        (
            Sklearn,
            "sklearn.neighbors",
            &[
                ("KNeighborsClassifier", Classes, Scaled),
                ("KNeighborsRegressor", Numbers, Scaled),
            ],
        ),
        (
            Sklearn,
            "sklearn.naive_bayes",
            &[("GaussianNB", Classes, Filled)],
        ),
        (
            Sklearn,
            "sklearn.svm",
            &[("SVC", Classes, Scaled), ("SVR", Numbers, Scaled)],
        ),
        (
            Sklearn,
            "sklearn.neural_network",
            &[
                ("MLPClassifier", Classes, Scaled),
                ("MLPRegressor", Numbers, Scaled),
            ],
        ),
        (
            Xgboost,
            "xgboost",
            &[
                ("XGBClassifier", Classes, Nothing),
                ("XGBRegressor", Numbers, Nothing),
            ],
        ),
        (
            Lightgbm,
            "lightgbm",
            &[
                ("LGBMClassifier", Classes, Nothing),
                ("LGBMRegressor", Numbers, Nothing),
            ],
        ),
    ]
};

impl Estimator {
    /// Finds a kind of model: its class (`RandomForestClassifier`), the same in small letters
    /// (`random_forest_classifier`), or `classifier` and `regressor` where there is one of each.
    pub(crate) fn find(framework: Framework, name: &str) -> Option<Self> {
        let plain = |text: &str| text.replace(['_', '-', ' '], "").to_ascii_lowercase();
        let wanted = plain(name);
        let short = |class: &str| {
            let class = plain(class);
            framework != Framework::Sklearn && class.ends_with(&wanted) && wanted.len() > 8
        };
        Self::all(framework).find(|e| plain(e.class) == wanted || short(e.class))
    }

    /// The kinds of a framework, as they are asked for.
    pub(crate) fn names(framework: Framework) -> Vec<&'static str> {
        Self::all(framework).map(|e| e.class).collect()
    }

    fn all(framework: Framework) -> impl Iterator<Item = Self> {
        let modules = MODULES.iter().filter(move |(of, ..)| *of == framework);
        modules.flat_map(move |&(framework, module, classes)| {
            classes.iter().map(move |&(class, task, needs)| Self {
                framework,
                class,
                module,
                task,
                needs,
            })
        })
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
