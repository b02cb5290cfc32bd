"""Holds one model and answers for it.

The server starts this file in the model's own environment and talks to it over standard input and
output in frames: a 4-byte little-endian length, one byte that names the frame, the content.

    to the worker    L load    JSON: folder, flavors, signature known or not
                     T layout  2-byte number, JSON: form and columns of the calls to come
                     P predict 2-byte layout, 1 byte (1: probabilities wanted), 4-byte rows,
                               then each column: its values as they lie in memory, or for JSON
                               columns a 4-byte length and a list
                     D dump    nothing: the model's numbers, for an engine that walks its trees
    to the server    R ready   JSON: what the model is and what it takes
                     F failed  JSON: why it cannot be loaded
                     A answer  predictions, probabilities
                     E error   JSON: what the model raised
                     N numbers 4-byte length, JSON; then for all nodes of all trees the left child,
                               right child and feature (4 bytes each, signed), what is done with
                               a missing number (1 byte), the threshold (8 bytes), then the values
                     U unknown JSON: why there are no numbers

Numbers travel as they lie in memory: nothing is rounded on the way. What the model prints goes to
standard error.
"""

import gc
import importlib
import json
import math
import os
import pickle
import struct
import sys
import time
import traceback

FORESTS = (
    "sklearn.ensemble._forest",
    "sklearn.tree._classes",
)
ROW_BY_ROW_STEPS = {
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "SimpleImputer",
}
WIDTHS = {"f64": 8, "f32": 4, "i64": 8, "i32": 4, "bool": 1, "datetime": 8}
DTYPES = {
    "f64": "<f8",
    "f32": "<f4",
    "i64": "<i8",
    "i32": "<i4",
    "bool": "?",
    "datetime": "<M8[ns]",
}


# --- loading --------------------------------------------------------------------------------


class Model:
    """A loaded model: how to ask it, and what it knows about its inputs."""

    def __init__(self, raw, predict, flavor):
        self.raw = raw
        self.predict = predict
        self.flavor = flavor
        self.probabilities = None
        self.no_probabilities = "the model has no predict_proba"
        self.names = None
        self.count = None
        self.names_are_rewritten = False
        self.row_by_row = False
        self.takes_text = False


def load(config):
    folder = config["folder"]
    flavors = config["flavors"]
    for settings in flavors.values():
        code = settings.get("code") if isinstance(settings, dict) else None
        if isinstance(code, str):
            sys.path.insert(0, os.path.join(folder, code))
    flavor = choose(flavors)
    if flavor == "python_function":
        return load_pyfunc(folder)
    try:
        return LOADERS[flavor](folder, flavors.get(flavor, {}), flavors)
    except ImportError:
        raise
    except Exception as direct:
        if "python_function" not in flavors:
            raise
        # A file that is laid out in a way that only mlflow itself knows.
        print(f"the direct loader failed, trying mlflow.pyfunc: {direct!r}", file=sys.stderr)
        try:
            return load_pyfunc(folder)
        except Exception:
            raise direct


def choose(flavors):
    by_module = {
        "mlflow.sklearn": "sklearn",
        "mlflow.xgboost": "xgboost",
        "mlflow.lightgbm": "lightgbm",
        "mlflow.pytorch": "pytorch",
    }
    if "asgard.pickle" in flavors:
        return "asgard.pickle"
    if "python_function" in flavors:
        wanted = by_module.get(flavors["python_function"].get("loader_module"))
        return wanted if wanted in flavors else "python_function"
    for flavor in by_module.values():
        if flavor in flavors:
            return flavor
    raise ValueError(f"none of the model's flavors can be served: {', '.join(flavors)}")


def unpickle(path, form):
    if form == "skops":
        import skops.io

        # The types are the ones that the file itself asks for: the sandbox is what bounds this
        # process, as with a pickle.
        return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    if form == "joblib" or path.endswith(".joblib"):
        import joblib

        return joblib.load(path)
    with open(path, "rb") as file:
        if form == "cloudpickle":
            import cloudpickle

            return cloudpickle.load(file)
        return pickle.load(file)


def load_sklearn(folder, settings, flavors):
    path = os.path.join(folder, settings["pickled_model"])
    raw = unpickle(path, settings.get("serialization_format", "pickle"))
    function = flavors.get("python_function", {}).get("predict_fn", "predict")
    return describe_sklearn(Model(raw, getattr(raw, function), "sklearn"))


def load_pickle(folder, settings, flavors):
    path = os.path.join(folder, settings["model_path"])
    try:
        raw = unpickle(path, "pickle")
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError):
        raw = unpickle(path, "joblib")
    if not callable(getattr(raw, "predict", None)):
        kind = type(raw).__name__
        raise TypeError(
            f"the pickle holds a {kind}, which has no predict method; pickle the trained model itself"
        )
    module = type(raw).__module__.split(".")[0]
    if module == "xgboost":
        return describe_xgboost(raw)
    if module == "lightgbm":
        return describe_lightgbm(raw)
    return describe_sklearn(Model(raw, raw.predict, "asgard.pickle"))


def describe_sklearn(model):
    raw = model.raw
    names = attribute(raw, "feature_names_in_")
    if names is not None and all(isinstance(name, str) for name in names):
        model.names = [str(name) for name in names]
    count = attribute(raw, "n_features_in_")
    model.count = int(count) if count is not None else None
    if attribute(raw, "predict_proba") is not None:
        model.probabilities = raw.predict_proba
    else:
        kind = type(raw).__name__
        model.no_probabilities = f"a {kind} has no predict_proba"
        if kind in ("SVC", "NuSVC"):
            model.no_probabilities += "; train it with probability=True to have one"
    model.row_by_row = is_row_by_row(raw)
    first = raw.steps[0][1] if hasattr(raw, "steps") else raw
    model.takes_text = attribute(first, "build_analyzer") is not None
    return model


def is_row_by_row(raw):
    """Whether a row's answer is the same bits however many rows are asked with it: matrix products
    do not promise that, walks through trees do."""
    if type(raw).__name__ == "Pipeline" and type(raw).__module__ == "sklearn.pipeline":
        steps = [step for _, step in raw.steps if step not in (None, "passthrough")]
        return all(
            type(step).__module__.startswith("sklearn.")
            and type(step).__name__ in ROW_BY_ROW_STEPS
            for step in steps[:-1]
        ) and is_row_by_row(steps[-1])
    module = type(raw).__module__
    return module in FORESTS or module.startswith(("xgboost.", "lightgbm."))


def attribute(raw, name):
    """An attribute, or None where it does not exist or refuses to be read."""
    try:
        return getattr(raw, name, None)
    except Exception:
        return None


def load_xgboost(folder, settings, flavors):
    path = os.path.join(folder, settings["data"])
    module, _, name = settings.get("model_class", "xgboost.core.Booster").rpartition(".")
    raw = getattr(importlib.import_module(module), name)()
    raw.load_model(path)
    return describe_xgboost(raw)


def describe_xgboost(raw):
    import xgboost

    booster = raw if isinstance(raw, xgboost.Booster) else raw.get_booster()
    if raw is not booster:
        model = describe_sklearn(Model(raw, raw.predict, "xgboost"))
    else:
        model = Model(raw, lambda data: raw.predict(xgboost.DMatrix(data)), "xgboost")
        objective = json.loads(raw.save_config())["learner"]["objective"]["name"]
        of_predictions(model, objective == "binary:logistic", objective == "multi:softprob", objective)
    model.names = list(booster.feature_names) if booster.feature_names else None
    model.count = int(booster.num_features())
    model.row_by_row = json.loads(booster.save_config())["learner"].get("gradient_booster", {}).get("name") != "gblinear"
    return model


def load_lightgbm(folder, settings, flavors):
    path = os.path.join(folder, settings["data"])
    if settings.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        import lightgbm

        return describe_lightgbm(lightgbm.Booster(model_file=path))
    return describe_lightgbm(unpickle(path, settings.get("serialization_format", "cloudpickle")))


def describe_lightgbm(raw):
    import lightgbm

    if isinstance(raw, lightgbm.Booster):
        model = Model(raw, raw.predict, "lightgbm")
        objective = raw.dump_model(num_iteration=1).get("objective", "").split(" ")[0]
        of_predictions(model, objective == "binary", objective in ("multiclass", "multiclassova"), objective)
        names = raw.feature_name()
        model.count = int(raw.num_feature())
    else:
        model = describe_sklearn(Model(raw, raw.predict, "lightgbm"))
        names = list(raw.feature_name_)
    unnamed = all(name == f"Column_{i}" for i, name in enumerate(names))
    model.names = None if unnamed else [str(name) for name in names]
    # LightGBM writes "sepal length" as "sepal_length", so that its names are not the caller's.
    model.names_are_rewritten = True
    model.row_by_row = True
    return model


def of_predictions(model, binary, multiclass, objective):
    """Boosters predict probabilities; say so where probabilities are asked for."""
    if binary:
        import numpy

        def both(predictions):
            return numpy.vstack((1.0 - predictions, predictions)).transpose()

        model.probabilities = lambda data, predictions: both(predictions)
    elif multiclass:
        model.probabilities = lambda data, predictions: predictions
    else:
        model.no_probabilities = f"a booster with the objective {objective!r} has no probabilities"
    if model.probabilities is not None:
        model.probabilities.from_predictions = True


def load_torch(folder, settings, flavors):
    import torch

    data = os.path.join(folder, settings.get("model_data", "data"))
    exported = os.path.join(data, "model.pt2")
    if os.path.exists(exported):
        raw = torch.export.load(exported).module()
    else:
        path = os.path.join(data, "model.pth")
        raw = torch.load(path, map_location="cpu", weights_only=False)
        raw.eval()
    model = Model(raw, lambda data: ask_torch(torch, raw, data), "pytorch")
    model.no_probabilities = "a PyTorch model has no predict_proba: its predictions are what the network puts out"
    return model


def ask_torch(torch, raw, data):
    import numpy

    if not isinstance(data, (numpy.ndarray, dict)):
        data = data.to_numpy(dtype=numpy.float32)
    with torch.no_grad():
        answer = raw(torch.from_numpy(data))
    if not isinstance(answer, torch.Tensor):
        raise TypeError(f"the network gave a {type(answer).__name__}, a single tensor is needed")
    return answer.cpu().numpy()


def load_pyfunc(folder):
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(folder)
    model = Model(loaded, loaded.predict, "python_function")
    raw = None
    try:
        raw = loaded.get_raw_model()
    except Exception:
        pass
    if raw is not None and callable(attribute(raw, "predict_proba")):
        model.probabilities = raw.predict_proba
    return model


LOADERS = {
    "sklearn": load_sklearn,
    "xgboost": load_xgboost,
    "lightgbm": load_lightgbm,
    "pytorch": load_torch,
    "asgard.pickle": load_pickle,
}


# --- questions ------------------------------------------------------------------------------


class Layout:
    """How the columns of a call lie in its frame, and what to make of them."""

    def __init__(self, description):
        form = description["form"]
        self.kind = form if isinstance(form, str) else next(iter(form))
        self.settings = {} if isinstance(form, str) else form[self.kind]
        self.names = [name for name, _ in description["columns"]]
        self.types = [kind for _, kind in description["columns"]]
        first = self.types[0]
        self.block = first if first in WIDTHS and all(t == first for t in self.types) else None

    def read(self, frame, rows, takes_text):
        import numpy

        if self.block:
            flat = numpy.frombuffer(frame, DTYPES[self.block])
            columns = flat.reshape(len(self.names), rows)
        else:
            columns = self.columns(numpy, frame, rows)
        if self.kind == "table":
            return self.table(columns, takes_text)
        if self.kind == "matrix":
            return self.matrix(numpy, columns)
        return self.arrays(numpy, columns)

    def columns(self, numpy, frame, rows):
        at = 0
        columns = []
        for kind in self.types:
            if kind in WIDTHS:
                end = at + WIDTHS[kind] * rows
                columns.append(numpy.frombuffer(frame[at:end], DTYPES[kind]))
            else:
                start = at + 4
                end = start + struct.unpack_from("<I", frame, at)[0]
                values = json.loads(bytes(frame[start:end]))
                if kind == "binary":
                    from base64 import b64decode

                    values = [None if v is None else b64decode(v, validate=True) for v in values]
                columns.append(values)
            at = end
        return columns

    def table(self, columns, takes_text):
        if takes_text and len(self.names) == 1:
            return list(columns[0])
        import pandas

        if self.block:
            return pandas.DataFrame(columns.T, columns=self.names, copy=False)
        return pandas.DataFrame(dict(zip(self.names, columns)))

    def matrix(self, numpy, columns):
        if self.block:
            array = numpy.ascontiguousarray(columns.T)
        elif all(isinstance(column, numpy.ndarray) for column in columns):
            array = numpy.column_stack(columns)
        else:
            array = numpy.array([list(row) for row in zip(*columns)], dtype=object)
        if self.settings.get("dtype"):
            array = array.astype(self.settings["dtype"], copy=False)
        shape = self.settings.get("shape")
        return array.ravel() if shape is not None and len(shape) == 1 else array

    def arrays(self, numpy, columns):
        arrays = []
        for values, (dtype, shape) in zip(columns, self.settings["specs"]):
            array = numpy.array(list(values), dtype=dtype)
            arrays.append(array.reshape([len(values), *shape[1:]]) if len(shape) > 1 else array)
        return dict(zip(self.names, arrays)) if self.settings["named"] else arrays[0]


# --- answers --------------------------------------------------------------------------------

ABSENT = b"\0"


def encode(value, rows):
    """An answer as bytes: its kind, its shape, its elements."""
    import numpy

    # pandas 3 says "pandas", earlier ones name the module inside.
    if type(value).__module__.partition(".")[0] == "pandas":
        value = of_pandas(value)
    if hasattr(value, "toarray"):
        value = value.toarray()
    if isinstance(value, numpy.ndarray) and value.ndim > 0:
        kind = value.dtype.kind
        if kind in "fiub":
            code, dtype = {"f": (b"f", "<f8"), "i": (b"i", "<i8"), "u": (b"u", "<u8"), "b": (b"b", "?")}[kind]
            shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
            return code + shape + numpy.ascontiguousarray(value, dtype=dtype).tobytes()
        value = value.tolist() if kind != "M" else numpy.datetime_as_string(value).tolist()
    if isinstance(value, tuple):
        value = list(value)
    content = json.dumps(plain(value), allow_nan=False).encode()
    by_row = isinstance(value, list) and len(value) == rows
    return (b"j" if by_row else b"s") + struct.pack("<I", len(content)) + content


def of_pandas(value):
    if not hasattr(value, "columns"):
        return value.to_numpy()
    if list(value.columns) == list(range(len(value.columns))):
        return value.to_numpy()
    return value.to_dict(orient="records")


def plain(value):
    """What JSON has words for: NaN is null, infinity is text, an unknown object is its str."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        from base64 import b64encode

        return b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def answer(model, data, rows, wants_probabilities):
    function = model.probabilities if wants_probabilities else None
    if function is None:
        return encode(model.predict(data), rows) + ABSENT
    if getattr(function, "from_predictions", False):
        predictions = model.predict(data)
        return encode(predictions, rows) + encode(function(data, predictions), rows)
    probabilities = function(data)
    if type(model.raw).__name__ in ("RandomForestClassifier", "ExtraTreesClassifier") and getattr(
        model.raw, "n_outputs_", 0
    ) == 1:
        # Exactly what their predict does with its own predict_proba.
        predictions = model.raw.classes_.take(probabilities.argmax(axis=1), axis=0)
    else:
        predictions = model.predict(data)
    return encode(predictions, rows) + encode(probabilities, rows)


# --- the model's own numbers ------------------------------------------------------------------
#
# Trees as arrays over all nodes of all trees. A leaf has the left child -1. What is done with NaN:
# 1 go left, 0 go right, 2 take it for zero.


# Beyond this the dump itself would be hundreds of megabytes.
MOST_NODES = 5_000_000


class Unknown(Exception):
    """The arithmetic of this model is not one that the server knows."""


def numbers(model):
    import numpy

    raw = model.raw
    module, kind = type(raw).__module__, type(raw).__name__
    if module in FORESTS:
        head, trees = of_sklearn(numpy, raw, kind)
    elif module.startswith("xgboost."):
        head, trees = of_xgboost(numpy, raw, kind)
    elif module.startswith("lightgbm."):
        head, trees = of_lightgbm(numpy, raw, kind)
    else:
        raise Unknown(f"a {kind}")
    if sum(len(tree[0]) for tree in trees) > MOST_NODES:
        raise Unknown("very many nodes")
    left, right, feature, missing, threshold, values = (
        numpy.concatenate([numpy.asarray(tree[part]).ravel() for tree in trees]) for part in range(6)
    )
    head["nodes"] = [len(tree[0]) for tree in trees]
    text = json.dumps(head).encode()
    return b"".join(
        [
            struct.pack("<I", len(text)),
            text,
            left.astype("<i4").tobytes(),
            right.astype("<i4").tobytes(),
            feature.astype("<i4").tobytes(),
            missing.astype("u1").tobytes(),
            threshold.astype("<f8").tobytes(),
            values.astype("<f8").tobytes(),
        ]
    )


def labels(raw):
    classes = raw.classes_
    if getattr(classes, "ndim", 0) != 1 or classes.dtype.kind not in "iubUO":
        raise Unknown("labels of an uncommon type")
    return plain(classes.tolist())


def of_sklearn(numpy, raw, kind):
    if not kind.startswith(("RandomForest", "ExtraTree", "DecisionTree")):
        raise Unknown(f"a {kind}")
    if raw.n_outputs_ != 1:
        raise Unknown("several outputs")
    estimators = [tree.tree_ for tree in getattr(raw, "estimators_", [raw])]
    head = {"family": "sklearn_regressor", "width": 1, "features": int(raw.n_features_in_)}
    if kind.endswith("Classifier"):
        head.update(family="sklearn_classifier", width=len(raw.classes_), labels=labels(raw))
    trees = []
    for tree in estimators:
        missing = getattr(tree, "missing_go_to_left", None)
        if missing is None:
            missing = numpy.zeros(tree.node_count, "u1")
        trees.append((tree.children_left, tree.children_right, tree.feature, missing, tree.threshold, tree.value))
    return head, trees


def of_xgboost(numpy, raw, kind):
    booster = raw if kind == "Booster" else raw.get_booster()
    learner = json.loads(booster.save_raw("json"))["learner"]
    if learner["gradient_booster"]["name"] != "gbtree":
        raise Unknown("another booster than gbtree")
    model = learner["gradient_booster"]["model"]
    config = json.loads(booster.save_config())["learner"]["learner_model_param"]
    base = json.loads(config["base_score"])
    objective = learner["objective"]["name"]
    families = {"binary:logistic": "xgboost_logistic", "reg:squarederror": "xgboost_sum", "multi:softprob": "xgboost_softmax"}
    if objective not in families or model.get("gbtree_model_param", {}).get("num_parallel_tree", "1") != "1":
        raise Unknown(f"the objective {objective}")
    head = {
        "family": families[objective],
        "width": 1,
        "features": int(booster.num_features()),
        "base": base if isinstance(base, list) else [base],
        "groups": model["tree_info"],
    }
    if hasattr(raw, "classes_"):
        head["labels"] = labels(raw)
    trees = []
    for tree in model["trees"]:
        if any(tree.get("split_type", [])):
            raise Unknown("categorical splits")
        # A leaf's value stands where an inner node has its threshold.
        condition = numpy.array(tree["split_conditions"], "f4").astype("f8")
        trees.append(
            (tree["left_children"], tree["right_children"], tree["split_indices"], tree["default_left"], condition, condition)
        )
    return head, trees


def of_lightgbm(numpy, raw, kind):
    booster = raw if kind == "Booster" else raw.booster_
    text = booster.model_to_string(num_iteration=-1 if kind == "Booster" else booster.best_iteration)
    blocks = text.split("end of trees")[0].split("\nTree=")
    top = dict(line.split("=", 1) for line in blocks[0].splitlines() if "=" in line)
    objective = top.get("objective", "").split(" ")
    families = {"binary": "lightgbm_logistic", "regression": "lightgbm_sum"}
    if objective[0] not in families or objective[1:] not in ([], ["sigmoid:1"]) or "average_output" in blocks[0]:
        raise Unknown(f"the objective {' '.join(objective)}")
    head = {"family": families[objective[0]], "width": 1, "features": int(booster.num_feature())}
    if hasattr(raw, "classes_"):
        head["labels"] = labels(raw)
    return head, [of_lightgbm_tree(numpy, block) for block in blocks[1:]]


def of_lightgbm_tree(numpy, block):
    fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    if fields.get("num_cat", "0") != "0" or fields.get("is_linear", "0") != "0":
        raise Unknown("categorical splits or linear leaves")

    def array(name, dtype):
        return numpy.array(fields.get(name, "").split(), dtype)

    leaves = array("leaf_value", "f8")
    inner = len(leaves) - 1
    if inner == 0:
        return [-1], [-1], [0], [0], [0.0], leaves
    decision = array("decision_type", "i4")
    kinds = (decision >> 2) & 3
    if (kinds == 1).any():
        raise Unknown("zero as a missing value")
    # NaN goes where the node says if it was seen in training, else it is taken for zero.
    missing = numpy.where(kinds == 2, (decision >> 1) & 1, 2)
    none = numpy.full(len(leaves), -1)

    def children(name):
        child = array(name, "i4")
        # A negative child is a leaf: -1 the first, -2 the second.
        return numpy.concatenate([numpy.where(child < 0, inner + ~child, child), none])

    padded = numpy.zeros(len(leaves))
    return (
        children("left_child"),
        children("right_child"),
        numpy.concatenate([array("split_feature", "i4"), padded]),
        numpy.concatenate([missing, padded]),
        numpy.concatenate([array("threshold", "f8"), padded]),
        numpy.concatenate([numpy.zeros(inner), leaves]),
    )


# --- the conversation -----------------------------------------------------------------------


def report(error):
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    content = {
        "type": type(error).__name__,
        "message": str(error)[:4000],
        "traceback": text[-8000:],
    }
    if isinstance(error, ImportError):
        content["module"] = error.name
    return json.dumps(content).encode()


def ready(model, began):
    return json.dumps(
        {
            "flavor": model.flavor,
            "class": f"{type(model.raw).__module__}.{type(model.raw).__qualname__}",
            "features": {
                "names": model.names,
                "count": model.count,
                "names_are_rewritten": model.names_are_rewritten,
            },
            "no_probabilities": model.no_probabilities if model.probabilities is None else None,
            "row_by_row": model.row_by_row,
            "load_ms": (time.monotonic() - began) * 1000,
        }
    ).encode()


def main():
    # What the model prints must not end up between the frames.
    requests = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    model = None
    layouts = {}

    def send(kind, content):
        answers.write(struct.pack("<IB", len(content) + 1, kind))
        answers.write(content)
        answers.flush()

    while True:
        head = requests.read(5)
        if len(head) < 5:
            return
        length, kind = struct.unpack("<IB", head)
        frame = bytearray(length - 1)
        view = memoryview(frame)
        filled = 0
        while filled < len(frame):
            count = requests.readinto(view[filled:])
            if not count:
                return
            filled += count
        try:
            if kind == ord("P"):
                layout, flags, rows = struct.unpack_from("<HBI", frame)
                data = layouts[layout].read(view[7:], rows, model.takes_text)
                content = answer(model, data, rows, flags & 1)
                send(ord("A"), content)
            elif kind == ord("T"):
                number = struct.unpack_from("<H", frame)[0]
                layouts[number] = Layout(json.loads(bytes(view[2:])))
            elif kind == ord("D"):
                try:
                    send(ord("N"), numbers(model))
                except Exception as error:
                    send(ord("U"), report(error))
            elif kind == ord("L"):
                began = time.monotonic()
                try:
                    model = load(json.loads(bytes(frame)))
                except BaseException as error:
                    send(ord("F"), report(error))
                    return
                gc.collect()
                gc.freeze()
                send(ord("R"), ready(model, began))
        except (Exception, SystemExit) as error:
            send(ord("E"), report(error))


if __name__ == "__main__":
    main()
