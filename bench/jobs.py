#!/usr/bin/env python3
"""Jobs: what asgard adds to a script, beside plain `python script.py` in the same environment.

    python3 bench/jobs.py [--times 5]

Measured after a first job has built the environment: from the upload to the script's first line, and a
minimal script with log_model from the upload to `completed`. The plain runs use the job's own
environment and log to the same asgard.
"""

import argparse
import base64
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import servers

FIRST_LINE = "import time; print('first line', time.time(), flush=True)\n"
MINIMAL = (servers.ROOT / "examples/training_scripts/minimal.py").read_text()
WHICH = "import sys; print('python', sys.prefix, flush=True)\n"


def upload(server, name, script):
    return server.ask("POST", "/mlops/training/upload", {
        "script_name": name, "script_content": base64.b64encode(script.encode()).decode(),
        "experiment_name": "bench", "model_name": "bench_" + name, "timeout": 900,
    })["job_id"]  # fmt: skip


def finish(server, job_id):
    while True:
        job = server.ask("GET", "/mlops/training/jobs/" + job_id)
        if job["status"] in ("completed", "failed"):
            return job
        time.sleep(0.02)


def word_after(logs, marker):
    for line in logs.splitlines():
        if line.startswith(marker):
            return line[len(marker) :].strip()
    raise RuntimeError("no line {!r} in the log:\n{}".format(marker, logs))


def one_job(server, name, script):
    """Seconds from the upload to the first line (if it prints one) and to the end."""
    begin_wall, begin = time.time(), time.perf_counter()
    job_id = upload(server, name, script)
    answered = time.perf_counter() - begin
    job = finish(server, job_id)
    seconds = time.perf_counter() - begin
    if name == "minimal" and (job["status"] != "completed" or job["model_version"] is None):
        raise RuntimeError(json.dumps(job, indent=2))
    first = None
    if "first line" in job["logs"]:
        first = float(word_after(job["logs"], "first line")) - begin_wall
    return answered, first, seconds, job


def plain(server, python, script):
    variables = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_EXPERIMENT_NAME": "bench"}
    begin_wall, begin = time.time(), time.perf_counter()
    done = subprocess.run([python, "-c", script], env=variables, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    first = float(word_after(done.stdout, "first line")) - begin_wall if "first line" in done.stdout else None
    return first, seconds


def environment_python(server):
    """The job's interpreter, as a path of this machine."""
    folders = sorted(pathlib.Path(server.folder, "data").glob("**/pyvenv.cfg"))
    if not folders:
        sys.exit("no environment found under the data directory")
    return str(folders[0].parent / "bin/python")


def milliseconds(values):
    return "{:,.0f} ms (worst {:,.0f})".format(1000 * statistics.median(values), 1000 * max(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="jobs of each kind (%(default)s)")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    results = {}
    print(servers.machine(), file=sys.stderr)
    with servers.asgard() as server:
        _, _, cold, job = one_job(server, "which", WHICH)
        python = environment_python(server)
        print("cold job (builds the environment): {:.1f} s; {}".format(cold, python), file=sys.stderr)
        results["cold_s"] = cold
        one_job(server, "minimal", MINIMAL)
        lines = [one_job(server, "first", FIRST_LINE) for _ in range(arguments.times)]
        minimal = [one_job(server, "minimal", MINIMAL) for _ in range(arguments.times)]
        bare = [plain(server, python, FIRST_LINE) for _ in range(arguments.times)]
        bare_minimal = [plain(server, python, MINIMAL) for _ in range(arguments.times)]
        results["upload_s"] = [row[0] for row in lines + minimal]
        results["first_line_s"] = [row[1] for row in lines]
        results["plain_first_line_s"] = [row[0] for row in bare]
        results["minimal_s"] = [row[2] for row in minimal]
        results["plain_minimal_s"] = [row[1] for row in bare_minimal]
        results["enforced"] = minimal[-1][3].get("enforced") or minimal[-1][3].get("isolation")

    print("| what, environment warm | plain python | asgard job | job ÷ plain |")
    print("| --- | --- | --- | --- |")
    for title, plain_name, name in (
        ("to the script's first line", "plain_first_line_s", "first_line_s"),
        ("minimal script with log_model, to the end", "plain_minimal_s", "minimal_s"),
    ):
        ratio = statistics.median(results[name]) / statistics.median(results[plain_name])
        print("| {} | {} | {} | {:.2f} |".format(title, milliseconds(results[plain_name]), milliseconds(results[name]), ratio))
    print("\nupload answered in {}; first job with an empty cache {:.1f} s".format(milliseconds(results["upload_s"]), results["cold_s"]))
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
