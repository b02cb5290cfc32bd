#!/usr/bin/env python3
"""Uploads a training script to asgard, follows the job and prints its result.

    python examples/upload_training_script.py \\
        --script my_model.py \\
        --experiment my_experiment \\
        --model my_model \\
        --requirements scikit-learn pandas==2.2.0 \\
        --env N_ESTIMATORS=200 --env DATA_PATH=/data/custom.csv \\
        --timeout 600

Standard library only: copy this file wherever you need it. The result goes to stdout, everything else
to stderr.

Exit codes: 0 completed, 1 refused or failed on the way, 2 wrong use, 4 not authenticated, 5 the job
failed, 6 not found, 8 still running when --wait was over, 9 server not reachable, 130 interrupted.
"""

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

COMPLETED, REFUSED, USAGE, NOT_ALLOWED, JOB_FAILED = 0, 1, 2, 4, 5
NOT_FOUND, PENDING, UNREACHABLE, INTERRUPTED = 6, 8, 9, 130
POLL_S = 1.0
ATTEMPTS = 6


class Refused(Exception):
    """An answer that is not the wanted one, or none at all."""

    def __init__(self, message, exit_code, help_text=None):
        super().__init__(message)
        self.exit_code = exit_code
        self.help_text = help_text


def say(text):
    print(text, file=sys.stderr, flush=True)


def key_value(text):
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError("expected NAME=VALUE, got {!r}".format(text))
    return name, value


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description="Upload a training script to asgard and wait for its result.",
        epilog="exit codes: 0 completed, 5 the job failed, 9 server not reachable; see the file's head",
    )
    parser.add_argument("--script", required=True, help="the Python file to run")
    parser.add_argument("--experiment", required=True, help="MLflow experiment of the run")
    parser.add_argument("--model", required=True, help="name under which the model is registered")
    parser.add_argument(
        "--requirements", nargs="*", default=[], metavar="PKG", help="pip packages, e.g. pandas==2.2.0"
    )
    parser.add_argument(
        "--env", action="append", default=[], type=key_value, metavar="K=V", help="repeatable"
    )
    parser.add_argument(
        "--tag", action="append", default=[], type=key_value, metavar="K=V", help="repeatable"
    )
    parser.add_argument("--timeout", type=int, help="seconds for the script itself (server: 300)")
    parser.add_argument("--url", default=os.environ.get("ASGARD_URL", "http://localhost:8000"))
    parser.add_argument("--wait", type=float, metavar="S", help="stop waiting after S seconds")
    parser.add_argument("--no-wait", action="store_true", help="print the job and return at once")
    parser.add_argument("--json", action="store_true", help="print the whole job document")
    return parser.parse_args(argv)


def upload_body(args):
    with open(args.script, "rb") as script:
        content = base64.b64encode(script.read()).decode("ascii")
    body = {
        "script_name": os.path.basename(args.script),
        "script_content": content,
        "experiment_name": args.experiment,
        "model_name": args.model,
        "requirements": args.requirements,
        "environment_vars": dict(args.env),
        "tags": dict(args.tag),
    }
    if args.timeout is not None:
        body["timeout"] = args.timeout
    return body


class Server:
    """The few requests that this tool makes."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.headers = {"Accept": "application/json"}
        token = os.environ.get("ASGARD_TOKEN")
        if token:
            self.headers["Authorization"] = "Bearer " + token

    def upload(self, body):
        # The key lets the server recognise a repeated request, so that a retry never starts a second job.
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        return self._send("/mlops/training/upload", json.dumps(body).encode(), headers)

    def job(self, job_id):
        return self._send("/mlops/training/jobs/" + job_id, None, {})

    def _send(self, path, data, headers):
        last = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(0.2 * 2**attempt, 5.0))
            request = urllib.request.Request(
                self.url + path, data=data, headers=dict(self.headers, **headers)
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.loads(response.read().decode("utf-8"))
            except urllib.error.HTTPError as error:
                last = refused(error)
                if error.code not in (429, 502, 503, 504):
                    raise last
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                last = Refused(
                    "no answer from {}: {}".format(self.url, reason),
                    UNREACHABLE,
                    "start the server with `asgard up`, or name another one with --url or ASGARD_URL",
                )
        raise last


def refused(error):
    try:
        body = json.loads(error.read().decode("utf-8"))
    except (OSError, ValueError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = body.get("message") or body.get("detail") or "HTTP {}".format(error.code)
    if body.get("request_id"):
        message = "{} (request {})".format(message, body["request_id"])
    exit_code = {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND}.get(error.code, REFUSED)
    return Refused(str(message), exit_code, body.get("help"))


class LogTail:
    """Prints what is new in a text that grows."""

    def __init__(self):
        self.shown = ""

    def show(self, text):
        text = text or ""
        fresh = text[len(self.shown) :] if text.startswith(self.shown) else text
        sys.stderr.write(fresh)
        sys.stderr.flush()
        self.shown = text


def follow(server, job_id, wait_s):
    """Polls until the job has ended; None when wait_s is over before."""
    tail, state, started = LogTail(), None, time.monotonic()
    while True:
        job = server.job(job_id)
        if job["status"] != state:
            state = job["status"]
            say("Status: {}".format(state))
        tail.show(job.get("logs"))
        if state in ("completed", "failed"):
            return job
        if wait_s is not None and time.monotonic() - started > wait_s:
            return None
        time.sleep(POLL_S)


def print_result(job, server):
    print("Job ID: {}".format(job["job_id"]))
    print("Status: {}".format(job["status"]))
    print("Run ID: {}".format(job.get("run_id")))
    print("Model: {}".format(job["model_name"]))
    print("Model version: {}".format(job.get("model_version")))
    print("Duration: {} s".format(job.get("duration_seconds")))
    for warning in job.get("warnings") or []:
        text = warning.get("message", warning) if isinstance(warning, dict) else warning
        say("warning: {}".format(text))
    if job["status"] == "failed":
        say("error: {}".format(job.get("error")))
        help_text = (job.get("error_info") or {}).get("help")
        if help_text:
            say("help: {}".format(help_text))
    elif job.get("model_version"):
        say("Predict with: curl -X POST {}/mlops/inference ...".format(server.url))


def main(argv=None):
    # Windows consoles and LANG=C would otherwise stumble over a script's own output.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    args = parse_arguments(argv)
    server, job_id = Server(args.url), None
    try:
        try:
            body = upload_body(args)
        except OSError as error:
            say("error: cannot read the script: {}".format(error))
            return USAGE
        job = server.upload(body)
        job_id = job["job_id"]
        say("Job ID: {}".format(job_id))
        if args.no_wait:
            print(json.dumps(job, indent=2) if args.json else job_id)
            return COMPLETED
        job = follow(server, job_id, args.wait)
        if job is None:
            say("still running after {:g} s: {}/mlops/training/jobs/{}".format(
                args.wait, server.url, job_id))
            return PENDING
        if args.json:
            print(json.dumps(job, indent=2, ensure_ascii=False))
        else:
            print_result(job, server)
        return COMPLETED if job["status"] == "completed" else JOB_FAILED
    except Refused as error:
        say("error: {}".format(error))
        if error.help_text:
            say("help: {}".format(error.help_text))
        return error.exit_code
    except KeyboardInterrupt:
        if job_id:
            say("\nthe job goes on: {}/mlops/training/jobs/{}".format(server.url, job_id))
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
