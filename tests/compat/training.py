"""Jobs and predictions over plain HTTP, and the same model asked in local Python."""

import base64
import json
import os
import pathlib
import subprocess
import time

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

# Building an environment on an empty cache downloads some hundred megabytes.
LONGEST_S = 900

# Loads a registered model as local Python would and answers for the inputs on stdin.
LOCAL = """
import json, sys
import mlflow, numpy, pandas as pd
request = json.load(sys.stdin)
uri = "models:/%s/%s" % (request["model_name"], request["model_version"])
model = mlflow.pyfunc.load_model(uri)
table = pd.DataFrame(request["inputs"])
if request["matrix"]:
    # As a script has it: row after row in memory. Kernels of torch differ by layout in the last bit.
    table = numpy.ascontiguousarray(table.to_numpy(dtype=request["matrix"]))
answer = {"predictions": model.predict(table)}
if request["flavor"]:
    loaded = getattr(__import__("mlflow." + request["flavor"]), request["flavor"]).load_model(uri)
    answer["probabilities"] = loaded.predict_proba(table)
def plain(value):
    if hasattr(value, "to_dict"):
        return value.to_dict("records") if value.ndim == 2 else value.tolist()
    return value.tolist() if hasattr(value, "tolist") else value
print("ANSWER" + json.dumps({name: plain(value) for name, value in answer.items()}))
"""


def upload(server, script, model_name, **fields):
    """Uploads a script (a path or its text) and returns the answer's document."""
    text = script.read_bytes() if isinstance(script, pathlib.Path) else script.encode()
    body = {
        "script_name": script.name if isinstance(script, pathlib.Path) else model_name,
        "script_content": base64.b64encode(text).decode(),
        "experiment_name": "compat",
        "model_name": model_name,
        **fields,
    }
    response = requests.post(server.url + "/mlops/training/upload", json=body, timeout=60)
    assert response.status_code == 202, response.text
    return response.json()


def finished(server, job_id, longest_s=LONGEST_S):
    """The job when it has ended."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        job = requests.get(server.url + "/mlops/training/jobs/" + job_id, timeout=60).json()
        if job["status"] in ("completed", "failed"):
            return job
        time.sleep(0.2)
    raise AssertionError("the job has not ended: " + json.dumps(job, indent=2))


def completed(server, script, model_name, **fields):
    """Uploads a script, waits, and returns a job that must be completed with a model."""
    job = finished(server, upload(server, script, model_name, **fields)["job_id"])
    assert job["status"] == "completed", explain(job)
    assert job["model_version"] is not None, explain(job)
    return job


def failed(server, script, model_name, **fields):
    """Uploads a script, waits, and returns a job that must have failed."""
    job = finished(server, upload(server, script, model_name, **fields)["job_id"])
    assert job["status"] == "failed", explain(job)
    return job


def explain(job):
    """A job in a form that a failed test can print."""
    return "{} {}: {}\n{}\n{}".format(
        job["job_id"], job["status"], job["error"], json.dumps(job["error_info"]), job["logs"]
    )


def predict(server, model_name, inputs, **fields):
    """The answer of an inference that must succeed."""
    body = {"model_name": model_name, "inputs": inputs, **fields}
    response = requests.post(server.url + "/mlops/inference", json=body, timeout=LONGEST_S)
    assert response.status_code == 200, response.text
    return response.json()


def environment_python(server, job):
    """The interpreter of the job's own environment, to be run outside of asgard."""
    found = sorted(
        pathlib.Path(server.data_dir).glob("**/{}*/bin/python".format(job["environment"]))
    )
    assert found, "no environment {} under {}".format(job["environment"], server.data_dir)
    return found[0]


def local_answer(server, job, inputs, flavor=None, matrix=None):
    """What local Python answers: the model is loaded by mlflow.pyfunc in the job's environment.

    With a ``flavor`` its own ``predict_proba`` is asked too. ``matrix`` is the dtype of models that
    were trained on arrays.
    """
    request = {
        "model_name": job["model_name"],
        "model_version": job["model_version"],
        "inputs": inputs,
        "flavor": flavor,
        "matrix": matrix,
    }
    done = subprocess.run(
        [str(environment_python(server, job)), "-W", "ignore", "-c", LOCAL],
        input=json.dumps(request),
        env={**os.environ, "MLFLOW_TRACKING_URI": server.url, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER"):
            return json.loads(line[len("ANSWER") :])
    raise AssertionError(done.stdout + done.stderr)
