"""Loads a pickled model for ``mlflow.pyfunc.load_model``.

asgard wrote this file beside a pickle that a training script logged as an artifact.
"""

import os
import pickle


class PickledModel:
    def __init__(self, model):
        self.model = model

    def predict(self, model_input, params=None):
        # A model that was trained on an array knows no column names; new columns come in order.
        if hasattr(model_input, "to_numpy") and not hasattr(self.model, "feature_names_in_"):
            trained_on_array = hasattr(self.model, "n_features_in_")
            model_input = model_input.to_numpy() if trained_on_array else model_input
        return self.model.predict(model_input)


def _load_pyfunc(path):
    path = os.path.realpath(path)
    if path.endswith(".joblib"):
        import joblib

        return PickledModel(joblib.load(path))
    try:
        with open(path, "rb") as file:
            return PickledModel(pickle.load(file))
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError):
        import joblib

        return PickledModel(joblib.load(path))
