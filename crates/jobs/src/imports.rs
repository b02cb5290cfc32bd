//! Which packages a script imports, read from its import statements without running it.

mod standard_library;

use std::collections::BTreeSet;

use standard_library::STANDARD_LIBRARY;

/// The top-level modules that a script imports, wherever in it, by name.
///
/// Only statements are read: text in comments and strings is left out as far as a line-by-line
/// look can tell, so a docstring that begins a line with `import x` may still count.
pub(crate) fn modules(script: &str) -> BTreeSet<String> {
    dotted(script)
        .iter()
        .filter_map(|module| module.split('.').next())
        .map(str::to_owned)
        .collect()
}

/// The modules that a script imports, with their dots: `sklearn.ensemble`.
pub(crate) fn dotted(script: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open_string: Option<&str> = None;
    for line in script.lines() {
        let starts_inside = open_string.is_some();
        open_string = string_after(line, open_string);
        if starts_inside {
            continue;
        }
        for statement in line.split(';') {
            read_statement(statement.trim(), &mut found);
        }
    }
    found.into_iter().collect()
}

/// The triple quote that is open after a line.
fn string_after<'q>(line: &str, mut open: Option<&'q str>) -> Option<&'q str> {
    let mut rest = line;
    loop {
        match open {
            Some(quote) => match rest.find(quote) {
                Some(at) => {
                    rest = &rest[at + 3..];
                    open = None;
                }
                None => return open,
            },
            None => {
                let comment = rest.find('#').unwrap_or(rest.len());
                let double = rest.find("\"\"\"").filter(|at| *at < comment);
                let single = rest.find("'''").filter(|at| *at < comment);
                let (at, quote) = match (double, single) {
                    (None, None) => return None,
                    (Some(d), Some(s)) if s < d => (s, "'''"),
                    (Some(d), _) => (d, "\"\"\""),
                    (None, Some(s)) => (s, "'''"),
                };
                rest = &rest[at + 3..];
                open = Some(quote);
            }
        }
    }
}

fn read_statement(statement: &str, found: &mut BTreeSet<String>) {
    let code = statement.split('#').next().unwrap_or_default().trim();
    if let Some(list) = code.strip_prefix("import ") {
        for module in list.split(',') {
            add(module, found);
        }
    } else if let Some(rest) = code.strip_prefix("from ")
        && let Some((module, _)) = rest.split_once(" import")
    {
        add(module, found);
    }
}

fn add(module: &str, found: &mut BTreeSet<String>) {
    let dotted = module.split_whitespace().next().unwrap_or_default();
    let is_name = |part: &str| {
        part.chars()
            .next()
            .is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    if dotted.split('.').all(is_name) {
        found.insert(dotted.to_owned());
    }
}

/// The package on the index that provides a module; `None` when the standard library or the
/// platform does.
pub(crate) fn package_of(module: &str) -> Option<&str> {
    if STANDARD_LIBRARY.binary_search(&module).is_ok() || PROVIDED.contains(&module) {
        return None;
    }
    Some(
        OTHER_NAMES
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(module, |(_, package)| package),
    )
}

/// The modules of a package, as far as they are known.
pub(crate) fn modules_of(package: &str) -> Vec<String> {
    let mut modules: Vec<String> = OTHER_NAMES
        .iter()
        .filter(|(_, name)| *name == package)
        .map(|(module, _)| (*module).to_owned())
        .collect();
    if modules.is_empty() {
        modules.push(package.replace(['-', '.'], "_"));
    }
    modules
}

/// What a package's usual functions load when they are called: importing these in advance, or for
/// their bytecode, spares the first script seconds. Missing ones are left out by whoever imports.
pub(crate) fn companions(module: &str) -> &'static [&'static str] {
    match module {
        "mlflow" => &[
            "mlflow",
            "mlflow.pyfunc",
            "mlflow.models.display_utils",
            "mlflow.store.artifact.mlflow_artifacts_repo",
            "mlflow.transformers",
            "mlflow.utils._capture_modules",
            "git",
        ],
        "sklearn" => &[
            "mlflow.sklearn",
            "skops.io",
            "sklearn.compose",
            "sklearn.datasets",
            "sklearn.ensemble",
            "sklearn.linear_model",
            "sklearn.metrics",
            "sklearn.model_selection",
            "sklearn.pipeline",
            "sklearn.preprocessing",
        ],
        "skops" => &["skops.io"],
        "xgboost" => &["xgboost", "mlflow.xgboost"],
        "lightgbm" => &["lightgbm", "mlflow.lightgbm"],
        "catboost" => &["catboost", "mlflow.catboost"],
        "torch" => &["torch", "mlflow.pytorch"],
        "tensorflow" => &["tensorflow", "mlflow.tensorflow"],
        "pandas" => &["pandas"],
        "matplotlib" => &["matplotlib.pyplot"],
        _ => &[],
    }
}

/// Whether a module's package can be guessed with confidence: a list of what data science imports.
/// Anything else could be a private module, or a package of that name by someone else, so the
/// platform only suggests it.
pub(crate) fn is_well_known(package: &str) -> bool {
    WELL_KNOWN.contains(&package) || OTHER_NAMES.iter().any(|(_, name)| *name == package)
}

/// Modules that every job has.
const PROVIDED: [&str; 2] = ["asgard", "__main__"];

/// Modules whose package has another name.
const OTHER_NAMES: [(&str, &str); 24] = [
    ("sklearn", "scikit-learn"),
    ("skimage", "scikit-image"),
    ("skopt", "scikit-optimize"),
    ("imblearn", "imbalanced-learn"),
    ("yaml", "pyyaml"),
    ("cv2", "opencv-python-headless"),
    ("PIL", "pillow"),
    ("bs4", "beautifulsoup4"),
    ("dateutil", "python-dateutil"),
    ("dotenv", "python-dotenv"),
    ("psycopg2", "psycopg2-binary"),
    ("MySQLdb", "mysqlclient"),
    ("Crypto", "pycryptodome"),
    ("serial", "pyserial"),
    ("docx", "python-docx"),
    ("jwt", "pyjwt"),
    ("git", "gitpython"),
    ("google", "google-cloud-storage"),
    ("pkg_resources", "setuptools"),
    ("pytorch_lightning", "pytorch-lightning"),
    ("sentence_transformers", "sentence-transformers"),
    ("category_encoders", "category-encoders"),
    ("umap", "umap-learn"),
    ("tensorflow_datasets", "tensorflow-datasets"),
];

/// Packages whose module has the same name and means nothing else.
const WELL_KNOWN: [&str; 47] = [
    "numpy",
    "pandas",
    "scipy",
    "mlflow",
    "skops",
    "xgboost",
    "lightgbm",
    "catboost",
    "torch",
    "torchvision",
    "torchaudio",
    "tensorflow",
    "keras",
    "jax",
    "flax",
    "optax",
    "transformers",
    "datasets",
    "tokenizers",
    "statsmodels",
    "prophet",
    "matplotlib",
    "seaborn",
    "plotly",
    "altair",
    "shap",
    "optuna",
    "hyperopt",
    "polars",
    "pyarrow",
    "duckdb",
    "requests",
    "httpx",
    "sqlalchemy",
    "boto3",
    "joblib",
    "cloudpickle",
    "tqdm",
    "rich",
    "pydantic",
    "numba",
    "networkx",
    "nltk",
    "spacy",
    "gensim",
    "feast",
    "onnx",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> Vec<String> {
        modules(script).into_iter().collect()
    }

    #[test]
    fn statements_are_read_in_all_their_forms() {
        let script = "import mlflow, os\nimport mlflow.sklearn as ms  # import comment\nfrom sklearn.ensemble import RandomForestClassifier\n\ndef f():\n    import yaml; from PIL import Image\nfrom . import local\nfrom __future__ import annotations\n";
        assert_eq!(
            of(script),
            ["PIL", "__future__", "mlflow", "os", "sklearn", "yaml"]
        );
    }

    #[test]
    fn text_in_strings_and_comments_is_not_an_import() {
        let script = "\"\"\"\nimport nothing\n\"\"\"\n# import nothing\nx = '''\nimport nothing\n''' ; import json\nprint('import nothing')\n";
        assert!(!of(script).contains(&"nothing".to_owned()));
    }

    #[test]
    fn packages_are_named_as_the_index_does() {
        assert_eq!(package_of("sklearn"), Some("scikit-learn"));
        assert_eq!(package_of("yaml"), Some("pyyaml"));
        assert_eq!(package_of("xgboost"), Some("xgboost"));
        assert_eq!(package_of("json"), None);
        assert_eq!(package_of("__future__"), None);
        assert_eq!(package_of("asgard"), None);
        assert!(is_well_known("pillow") && is_well_known("xgboost") && !is_well_known("mycompany"));
    }

    #[test]
    fn the_standard_library_is_sorted() {
        assert!(STANDARD_LIBRARY.is_sorted());
    }
}
