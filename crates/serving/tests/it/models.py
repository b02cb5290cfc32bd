"""Trains small models of every kind that is served, saves them as MLflow does, and writes down what
Python itself answers: `FOLDER/NAME/` the model, `FOLDER/NAME.inputs.json` the columns of a request,
`FOLDER/NAME.json` the answers."""

import json
import os
import pickle
import sys

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import xgboost
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

folder = sys.argv[1]
PINNED = ["scikit-learn", "pandas"]


def plain(value):
    if isinstance(value, pd.DataFrame):
        if list(value.columns) == list(range(len(value.columns))):
            return value.to_numpy().tolist()
        return value.to_dict(orient="records")
    return value.tolist() if hasattr(value, "tolist") else value


def keep(name, inputs, predictions, probabilities=None):
    """Writes a request as columns, and its answers."""
    write(name + ".inputs.json", {str(c): inputs[c].tolist() for c in inputs.columns})
    content = {
        "predictions": plain(predictions),
        "probabilities": None if probabilities is None else plain(probabilities),
    }
    write(name + ".json", content)


def write(name, content):
    """JSON has no word for what is missing: it is null."""
    with open(os.path.join(folder, name), "w") as file:
        file.write(json.dumps(content).replace("NaN", "null"))


def save(name, save_model, model, **settings):
    path = os.path.join(folder, name)
    save_model(model, path, pip_requirements=PINNED, **settings)
    return path


def local(path, data):
    return mlflow.pyfunc.load_model(path).predict(data)


X, y = make_classification(1_000, 20, n_informative=8, random_state=0)
columns = [f"feature_{i}" for i in range(20)]
table = pd.DataFrame(X, columns=columns)
ask = table.head(25)
signature = infer_signature(table, y)

# A table with a signature and an input example.
forest = RandomForestClassifier(100, random_state=0).fit(table, y)
path = save("forest", mlflow.sklearn.save_model, forest, signature=signature, input_example=table.head(3))
keep("forest", ask, local(path, ask), forest.predict_proba(ask))

# The Iris of the documents: trained with numpy, asked with names that it never saw.
iris = load_iris()
flowers = RandomForestClassifier(100, random_state=0).fit(iris.data, iris.target)
named = pd.DataFrame(iris.data[::10], columns=["sepal_length", "sepal_width", "petal_length", "petal_width"])
save("iris", mlflow.sklearn.save_model, flowers, serialization_format="pickle")
keep("iris", named, flowers.predict(iris.data[::10]), flowers.predict_proba(iris.data[::10]))
save(
    "iris_tensor",
    mlflow.sklearn.save_model,
    flowers,
    signature=infer_signature(iris.data, iris.target),
    serialization_format="cloudpickle",
)
keep("iris_tensor", named, flowers.predict(iris.data[::10]), flowers.predict_proba(iris.data[::10]))

regressor = RandomForestRegressor(20, random_state=0).fit(table, X[:, 0] * 3 + 0.1)
path = save("regressor", mlflow.sklearn.save_model, regressor, signature=infer_signature(table, X[:, 0]))
keep("regressor", ask, local(path, ask))

# Labels that are text, an integer column, a text column, a truth and a missing number.
people = pd.DataFrame(
    {
        "age": [41.0, 23.5, np.nan, 65.0] * 25,
        "visits": list(range(100)),
        "city": ["Oslo", "Lima", "Oslo", "Kyōto"] * 25,
        "member": [True, False, False, True] * 25,
    }
)
outcome = np.where(np.arange(100) % 3 == 0, "stays", "leaves")
mixed = make_pipeline(
    make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), ("passthrough", ["age", "visits", "member"])
    ),
    RandomForestClassifier(10, random_state=0),
).fit(people, outcome)
path = save(
    "mixed", mlflow.sklearn.save_model, mixed, signature=infer_signature(people, outcome), serialization_format="cloudpickle"
)
few = people.head(8)
keep("mixed", few, local(path, few), mixed.predict_proba(few))

logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, np.where(y, "yes", "no"))
path = save("logistic", mlflow.sklearn.save_model, logistic)
keep("logistic", ask, local(path, ask), logistic.predict_proba(ask))

svc = LinearSVC().fit(X, y)
path = save("svc", mlflow.sklearn.save_model, svc, serialization_format="cloudpickle")
keep("svc", ask, svc.predict(ask.to_numpy()))

texts = ["good and cheap", "bad and slow", "cheap", "slow", "good"] * 4
words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0, 1] * 4)
save("words", mlflow.sklearn.save_model, words, serialization_format="cloudpickle")
keep("words", pd.DataFrame({"text": texts[:3]}), words.predict(texts[:3]), words.predict_proba(texts[:3]))

# XGBoost and LightGBM by both of their interfaces.
holes = ask.copy()
holes.iloc[::4, ::3] = np.nan
boosted = xgboost.XGBClassifier(n_estimators=30, max_depth=4).fit(table, y)
path = save("xgboost", mlflow.xgboost.save_model, boosted, signature=signature)
keep("xgboost", holes, local(path, holes), boosted.predict_proba(holes))
three = xgboost.XGBClassifier(n_estimators=10).fit(iris.data, iris.target)
save("xgboost_iris", mlflow.xgboost.save_model, three)
keep("xgboost_iris", named, three.predict(iris.data[::10]), three.predict_proba(iris.data[::10]))
raw = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(table, label=y), 20)
path = save("xgboost_booster", mlflow.xgboost.save_model, raw, signature=signature)
p = local(path, ask)
keep("xgboost_booster", ask, p, np.vstack((1.0 - p, p)).transpose())
price = xgboost.XGBRegressor(n_estimators=20).fit(X, X[:, 1])
save("xgboost_regressor", mlflow.xgboost.save_model, price)
keep("xgboost_regressor", ask, price.predict(ask.to_numpy()))

light = lightgbm.LGBMClassifier(n_estimators=30, verbose=-1).fit(table, y)
path = save("lightgbm", mlflow.lightgbm.save_model, light, signature=signature)
keep("lightgbm", holes, local(path, holes), light.predict_proba(holes))
raw = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(table, label=y), 20)
path = save("lightgbm_booster", mlflow.lightgbm.save_model, raw, signature=signature)
p = local(path, ask)
keep("lightgbm_booster", ask, p, np.vstack((1.0 - p, p)).transpose())
light_three = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(iris.data, iris.target)
save("lightgbm_iris", mlflow.lightgbm.save_model, light_three)
keep("lightgbm_iris", named, light_three.predict(iris.data[::10]), light_three.predict_proba(iris.data[::10]))


# A model of one's own.
class Custom(mlflow.pyfunc.PythonModel):
    """Greets, raises, ends its process, sleeps, takes too much or tells variables, as the first column says."""

    def load_context(self, context):
        import os

        self.loaded_with = os.environ.get("GREETING")

    def predict(self, context, model_input, params=None):
        import os
        import time

        print("a model prints what it likes")
        if "variables" in list(model_input["what"]):
            return [self.loaded_with, *map(os.environ.get, ("GREETING", "LANG", "HOME", "ASGARD_MODEL_VARIABLES"))]
        if "end" in list(model_input["what"]):
            os._exit(7)
        if "raise" in list(model_input["what"]):
            raise ValueError("the third law")
        if "sleep" in list(model_input["what"]):
            time.sleep(600)
        if "hoard" in list(model_input["what"]):
            return len(bytearray(os.urandom(1 << 20) * 3000))
        if "flood" in list(model_input["what"]):
            return np.zeros(40_000_000)
        rows = zip(model_input["what"], model_input["x"])
        return [{"greeting": f"hello {what}", "twice": x * 2, "none": float("nan")} for what, x in rows]


path = os.path.join(folder, "custom")
mlflow.pyfunc.save_model(path, python_model=Custom(), pip_requirements=["mlflow", "pandas"])
two = pd.DataFrame({"what": ["world", "you"], "x": [1.5, 0.5]})
keep("custom", two, local(path, two))

# A lone pickle that a job has wrapped.
path = os.path.join(folder, "pickle")
os.makedirs(path)
with open(os.path.join(path, "model.pkl"), "wb") as file:
    pickle.dump(flowers, file)
with open(os.path.join(path, "MLmodel"), "w") as file:
    file.write("flavors:\n  asgard.pickle:\n    model_path: model.pkl\n")
keep("pickle", named, flowers.predict(iris.data[::10]), flowers.predict_proba(iris.data[::10]))

# What cannot be loaded: code that is not there, a file that is no pickle.
for name, content in (("lost", b"cnot_installed.anywhere\nModel\n)R."), ("broken", b"not a pickle")):
    path = os.path.join(folder, name)
    os.makedirs(path)
    with open(os.path.join(path, "model.pkl"), "wb") as file:
        file.write(content)
    with open(os.path.join(path, "MLmodel"), "w") as file:
        file.write("flavors:\n  asgard.pickle:\n    model_path: model.pkl\n")
