#!/usr/bin/env python3
"""Encodes a training script, or makes a whole deploy request out of it.

    python ml_deployment/encode_script.py train.py                                # base64
    python ml_deployment/encode_script.py train.py --deploy --model-name my_model > request.json

Data goes to stdout, everything else to stderr, so that redirecting is safe. Standard library only.
"""

import argparse
import ast
import base64
import json
import os
import sys

MODEL_CALLS = "log_model log_artifact log_artifacts save_model register_model autolog".split()


def say(text):
    print(text, file=sys.stderr)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description="Encode a training script for asgard.")
    parser.add_argument("script", help="the Python file")
    parser.add_argument("--deploy", action="store_true", help="print a request for POST /mlops/deploy")
    deploy = parser.add_argument_group("with --deploy")
    deploy.add_argument("--model-name", help="name under which the model is registered")
    deploy.add_argument("--experiment-name", help="MLflow experiment (default: the model's name)")
    deploy.add_argument("--requirements", nargs="*", default=[], metavar="PKG", help="pip packages")
    deploy.add_argument("--timeout", type=int, default=300, help="seconds, 60-3600 (%(default)s)")
    deploy.add_argument("--replicas", type=int, default=2, help="1-10 (%(default)s)")
    deploy.add_argument("--namespace", default="asgard", help="Kubernetes namespace (%(default)s)")
    args = parser.parse_args(argv)
    if args.deploy and not args.model_name:
        parser.error("--deploy needs --model-name")
    if not 60 <= args.timeout <= 3600:
        parser.error("--timeout must be from 60 to 3600 seconds")
    if not 1 <= args.replicas <= 10:
        parser.error("--replicas must be from 1 to 10")
    return args


def warn_about(source, name):
    """Says what asgard would miss in this script. Only a warning: the script may do it in an import."""
    try:
        tree = ast.parse(source, filename=name)
    except (SyntaxError, ValueError) as error:
        say("warning: this is not valid Python here: {}".format(error))
        return
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    if not called.intersection(MODEL_CALLS):
        say(
            "warning: no model is logged in this script; "
            "add mlflow.<framework>.log_model(model, 'model')"
        )


def deploy_request(args, encoded):
    return {
        "script_name": os.path.basename(args.script),
        "script_content": encoded,
        "experiment_name": args.experiment_name or args.model_name,
        "model_name": args.model_name,
        "requirements": args.requirements,
        "environment_vars": {},
        "timeout": args.timeout,
        "tags": {},
        "replicas": args.replicas,
        "namespace": args.namespace,
    }


def main(argv=None):
    args = parse_arguments(argv)
    try:
        with open(args.script, "rb") as script:
            source = script.read()
    except OSError as error:
        say("error: cannot read the script: {}".format(error))
        return 2
    warn_about(source, args.script)
    encoded = base64.b64encode(source).decode("ascii")
    if not args.deploy:
        print(encoded)
        return 0
    print(json.dumps(deploy_request(args, encoded), indent=2))
    say(
        "send it with: curl -X POST http://localhost:8000/mlops/deploy "
        '-H "Content-Type: application/json" -d @request.json'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
