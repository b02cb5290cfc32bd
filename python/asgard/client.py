"""The client of asgard's own routes. For tracking and the registry use mlflow: asgard is its server."""

from __future__ import annotations

import base64
import os
import time
import urllib.parse
import uuid
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from .columns import as_columns
from .run import FINAL_STATUSES, Run
from .transport import Transport

__all__ = ["AsgardMLOpsClient"]

PathLike = Union[str, "os.PathLike[str]"]


class AsgardMLOpsClient:
    """One asgard server.

    ``base_url`` is its address (default: the environment variable ASGARD_URL, else this machine's
    port 8000), ``token`` an API key (default: ASGARD_TOKEN); a server on this machine needs none.
    Requests that may be repeated are repeated when the server is not reachable or busy. Answers are
    the JSON documents as dicts; refusals raise AsgardError, which carries ``code`` and ``help``.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        token: Optional[str] = None,
        *,
        timeout: float = 60.0,
        attempts: int = 5,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("ASGARD_URL") or "http://localhost:8000"
        if token is None:
            token = os.environ.get("ASGARD_TOKEN") or None
        self._transport = Transport(base_url, token, timeout, attempts)
        self.base_url = self._transport.base_url

    # Training

    def upload_script(
        self,
        script_path: PathLike,
        experiment_name: str,
        model_name: str,
        **kwargs: Any,
    ) -> Dict[str, Any]:
        """Uploads a script and returns the queued job.

        Further fields of the request go as keywords: ``requirements`` (list), ``environment_vars`` and
        ``tags`` (dicts), ``timeout`` (seconds), ``require_model``, ``autolog``, ...
        """
        with open(script_path, "rb") as script:
            content = base64.b64encode(script.read()).decode("ascii")
        # A key of our own makes the upload repeatable: the server answers a second one with the same job.
        key = kwargs.pop("idempotency_key", None) or str(uuid.uuid4())
        body = {
            "script_name": os.path.basename(os.fspath(script_path)),
            "script_content": content,
            "experiment_name": experiment_name,
            "model_name": model_name,
            **{name: value for name, value in kwargs.items() if value is not None},
        }
        headers = {"Idempotency-Key": key}
        return self._post(
            "/mlops/training/upload", body, headers, repeatable=True
        )

    def run(
        self,
        script_path: PathLike,
        model_name: Optional[str] = None,
        experiment_name: Optional[str] = None,
        **kwargs: Any,
    ) -> Run:
        """Uploads a script and returns a handle: ``client.run("train.py").follow()``.

        The model is called like the script and the experiment like the model unless named here.
        """
        stem = os.path.splitext(os.path.basename(os.fspath(script_path)))[0]
        model_name = model_name or stem
        job = self.upload_script(
            script_path, experiment_name or model_name, model_name, **kwargs
        )
        return Run(self, job)

    def get_job_status(self, job_id: str) -> Dict[str, Any]:
        """The whole job document, with the log as far as it has come."""
        return self._get(_job_path(job_id))

    def list_jobs(self, **filters: Any) -> Dict[str, Any]:
        """A page of jobs, newest first; filters such as ``status`` and ``limit`` go into the query."""
        return self._get("/mlops/training/jobs", filters)

    def wait_for_job(
        self, job_id: str, timeout: float = 600, poll_interval: float = 5
    ) -> Dict[str, Any]:
        """Waits until the job is ``completed`` or ``failed`` and returns it.

        Raises TimeoutError when it is neither after ``timeout`` seconds; the job goes on.
        """
        deadline = time.monotonic() + timeout
        while True:
            job = self.get_job_status(job_id)
            if job["status"] in FINAL_STATUSES:
                return job
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    "Job {} did not complete within {}s".format(job_id, timeout)
                )
            time.sleep(min(poll_interval, left))

    def cancel_job(self, job_id: str) -> Dict[str, Any]:
        """Stops a job with all its processes. Raises ConflictError if it has ended already."""
        return self._post(_job_path(job_id) + "/cancel", {}, repeatable=True)

    def rerun_job(self, job_id: str) -> Dict[str, Any]:
        """Runs again what a job ran: the same script, packages and settings; returns the new job."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._post(_job_path(job_id) + "/rerun", {}, headers, repeatable=True)

    def logs(self, job_id: str) -> str:
        """The whole log as far as it has come."""
        text: List[str] = []
        offset = 0
        while True:
            page = self.log_page(job_id, offset)
            if page["next_offset"] == offset:
                return "".join(text)
            text.append(page["logs"])
            offset = page["next_offset"]

    def log_page(self, job_id: str, offset: int = 0) -> Dict[str, Any]:
        """A part of the log from a byte offset: ``logs`` and the ``next_offset`` to go on from."""
        return self._get(_job_path(job_id) + "/logs", {"offset": offset})

    # Models

    def list_models(self) -> List[Dict[str, Any]]:
        """All registered models."""
        models: List[Dict[str, Any]] = self._transport.get("/mlops/models")
        return models

    def predict(
        self,
        model_name: str,
        inputs: Any,
        model_version: Optional[Union[str, int]] = None,
        return_probabilities: bool = False,
        features_from: Optional[Union[str, Sequence[str]]] = None,
    ) -> Dict[str, Any]:
        """Asks a model. ``inputs``: a dict of columns, a list of row dicts, a matrix or a DataFrame.

        ``model_version`` is a number, an alias (``@champion``) or None for the latest. The answer has
        ``predictions``, ``probabilities`` (None unless asked for and known) and the resolved version.
        ``features_from`` names feature views: columns that ``inputs`` lacks come from the online store.
        """
        body: Dict[str, Any] = {
            "model_name": model_name,
            "inputs": as_columns(inputs),
            "return_probabilities": return_probabilities,
        }
        if model_version is not None:
            body["model_version"] = str(model_version)
        if features_from is not None:
            body["features_from"] = features_from
        return self._post("/mlops/inference", body, repeatable=True)

    def register_model(
        self,
        model_name: str,
        run_id: str,
        description: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
    ) -> Dict[str, Any]:
        """Registers the model of a run by hand. Jobs do it by themselves."""
        body: Dict[str, Any] = {"model_name": model_name, "run_id": run_id}
        if description is not None:
            body["description"] = description
        if tags is not None:
            body["tags"] = dict(tags)
        return self._post("/mlops/registry", body)

    # Platform

    def get_status(self) -> Dict[str, Any]:
        """The platform's health and counts."""
        return self._get("/mlops/status")

    # Features

    def create_feature_view(
        self,
        name: str,
        entities: Sequence[str],
        features: Sequence[Mapping[str, str]],
        source: Mapping[str, str],
        **kwargs: Any,
    ) -> Dict[str, Any]:
        """Creates a feature view over an Iceberg table; ``ttl_days``, ``tags``, ... go as keywords."""
        body = {
            "name": name,
            "entities": list(entities),
            "features": [dict(feature) for feature in features],
            "source": dict(source),
            **kwargs,
        }
        return self._post("/feast/features", body)

    def _get(
        self, path: str, query: Optional[Mapping[str, Any]] = None
    ) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._transport.get(path, query)
        return answer

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = False,
    ) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._transport.post(path, body, headers, repeatable)
        return answer


def _job_path(job_id: str) -> str:
    return "/mlops/training/jobs/" + urllib.parse.quote(job_id, safe="")
