#!/usr/bin/env python3
"""Start-up: from the start of the process to the first answer, and the memory when idle.

    python3 bench/startup.py [--times 5]

asgard is started on a fresh data directory each time and once more on a used one.
"""

import argparse
import json
import statistics
import sys
import time

import load
import servers

IDLE_S = 5.0


def once(starter):
    with starter() as server:
        seconds = server.seconds_to_answer
        time.sleep(IDLE_S)
        return (seconds, *load.tree_memory_mib(server.pid))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="starts of each server (%(default)s)")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    results = {}
    print(servers.machine(), file=sys.stderr)
    print("| server | start to first answer, median (worst) | idle RSS | idle PSS | processes |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("mlflow", "fasttrackml", "asgard"):
        rows = [once(getattr(servers, name)) for _ in range(arguments.times)]
        seconds = [row[0] for row in rows]
        rss, pss, processes = (statistics.median(row[i] for row in rows) for i in (1, 2, 3))
        results[name] = {"seconds": seconds, "rss_mib": rss, "pss_mib": pss, "processes": processes}
        print("| {} | {:.3f} s ({:.3f}) | {:.0f} MiB | {:.0f} MiB | {:.0f} |".format(
            name, statistics.median(seconds), max(seconds), rss, pss, processes))  # fmt: skip
    mlflow, asgard = results["mlflow"], results["asgard"]
    print("\nasgard answers {:.0f}× sooner than mlflow and idles on {:.0f}× less memory (PSS).".format(
        statistics.median(mlflow["seconds"]) / statistics.median(asgard["seconds"]),
        mlflow["pss_mib"] / asgard["pss_mib"]))  # fmt: skip
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
