"""Runs one training script as ``__main__``, as if Python had been started with it.

The server sends one JSON document on standard input and closes it: the script, its file name, its
environment variables, and what MLflow should know. ``--preload a,b`` imports modules first and
then waits for the document, so that a job finds its imports done. An empty input ends the process.

Lines of the form ``::asgard WORD JSON::`` on standard output tell the server when the script begins
and how it failed; a script that prints such a line only misleads its own job.
"""

import builtins
import functools
import gc
import importlib
import importlib.machinery
import inspect
import json
import os
import shutil
import sys
import traceback
import types

HERE = os.path.dirname(os.path.abspath(__file__))
DETAILS_LIMIT = 6000
MARKER = "\n::asgard {} {}::\n"


def main():
    arguments = sys.argv[1:]
    # The script's own folder comes last, so that a script called xgboost.py can import xgboost.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != HERE]
    sys.path += [os.path.join(HERE, "site"), os.getcwd()]
    watch_mlflow()
    if arguments[:1] == ["--preload"]:
        preload(arguments[1].split(","))
    document = sys.stdin.buffer.read()
    if not document:
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return run(json.loads(document))


# Modules that were imported before the script was known.
PRELOADED = set()
JOB = {}


def preload(modules):
    """Imports modules in silence; one that fails is left to the script."""
    silence = os.open(os.devnull, os.O_WRONLY)
    saved = os.dup(1), os.dup(2)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException:
            pass
    know_packages()
    sys.stdout.flush()
    sys.stderr.flush()
    for target, source in zip((1, 2), saved):
        os.dup2(source, target)
        os.close(source)
    os.close(silence)
    PRELOADED.update(name.partition(".")[0] for name in sys.modules)
    gc.collect()
    gc.freeze()
    sys.stdout.write("::asgard ready null::\n")
    sys.stdout.flush()


def know_packages():
    """Has MLflow read now which package brings which module: it takes half a second of ``log_model``.

    (2.16 to 3.18: ``mlflow.utils.requirements_utils``.)
    """
    requirements_utils = sys.modules.get("mlflow.utils.requirements_utils")
    read = getattr(requirements_utils, "_init_modules_to_packages_map", None)
    try:
        if read is not None:
            read()
    except BaseException:
        pass  # ``log_model`` reads it, and says it better


def run(job):
    JOB.update(job)
    os.environ.update(job["environment"])
    for name, content in job["files"]:
        place_file(os.path.join(os.environ["TMPDIR"], name), content)
    path = os.path.join(os.getcwd(), job["file"])
    source = job["script"].encode("utf-8")
    with open(path, "wb") as file:
        file.write(source)
    script = types.ModuleType("__main__")
    script.__file__ = path
    script.__builtins__ = builtins
    script.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    script.__cached__ = None
    sys.modules["__main__"] = script
    sys.argv[:] = [path]
    try:
        if job["autolog"]:
            importlib.import_module("mlflow").autolog()
        code = compile(source, path, "exec", dont_inherit=True)
        say("begun")
        exec(code, script.__dict__)
    except SystemExit as stop:
        return leave(stop)
    except BaseException as error:
        return fail(error)
    return 0


def place_file(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


def leave(stop):
    """The exit code of ``sys.exit(...)``."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        code = stop.code & 0xFF
    else:
        print(stop.code, file=sys.stderr)
        code = 1
    if code:
        end_active_run()
        say("failed", {"type": "SystemExit", "message": str(stop.code), "code": code})
    return code


def fail(error):
    """Shows an error as Python would, with the script's frames only, and tells the server."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    error.__traceback__ = frames
    sys.stdout.flush()
    try:
        sys.excepthook(type(error), error, frames)
    except BaseException:
        traceback.print_exception(type(error), error, frames)
    sys.stderr.flush()
    end_active_run()
    text = "".join(traceback.format_exception(type(error), error, frames))
    if len(text) > DETAILS_LIMIT:
        text = text[: DETAILS_LIMIT // 2] + "\n[...]\n" + text[-DETAILS_LIMIT // 2 :]
    report = {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": text,
        "line": line_of(error, frames),
    }
    if isinstance(error, ImportError) and error.name:
        report["module"] = error.name
    say("failed", report)
    return 1


def line_of(error, frames):
    """The line of the script that the error came through last."""
    own = os.path.join(os.getcwd(), JOB["file"])
    line = None
    if isinstance(error, SyntaxError) and error.filename == own:
        line = error.lineno
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == own:
            line = frames.tb_lineno
        frames = frames.tb_next
    return line


def end_active_run():
    """Ends the run that the script left open as failed; at exit MLflow would call it finished."""
    mlflow = sys.modules.get("mlflow")
    try:
        if mlflow is not None and mlflow.active_run() is not None:
            mlflow.end_run("FAILED")
    except BaseException:
        pass


def say(word, content=None):
    # The line break in front ends a line that the script left open; the server takes it away again.
    sys.stdout.flush()
    sys.stdout.write(MARKER.format(word, json.dumps(content, ensure_ascii=False)))
    sys.stdout.flush()


def watch_mlflow():
    """Changes two of MLflow's modules as they are imported."""

    class Watcher:
        changes = {"mlflow.utils.environment": know_requirements, "mlflow.sklearn": trust_own_types}

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            change = cls.changes.get(name)
            if change is None:
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            if spec is None or spec.loader is None:
                return spec
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Watcher)


def know_requirements(environment):
    """``log_model`` takes the job's own packages as the model's requirements.

    MLflow finds them by loading the model in another Python process, which takes seconds; the
    server knows what the environment holds. (2.16 to 3.18: ``mlflow.utils.environment``.)
    """
    inferred = getattr(environment, "_infer_requirements", None)
    if inferred is not None:
        environment._infer_requirements = lambda *a, **k: requirements(inferred, a, k)


def trust_own_types(flavor):
    """A model that this script made may be saved with the types it is made of.

    MLflow 3.17 saves scikit-learn models with skops, and skops 0.16 trusts no tree, so that the
    plainest ``log_model(RandomForestClassifier())`` fails. Then types of the packages that the job
    asked for are trusted, and it is saved again; models are loaded in a sandbox only.
    """
    save_model = flavor.save_model
    signature = inspect.signature(save_model)
    if "skops_trusted_types" not in signature.parameters:
        return

    @functools.wraps(save_model)
    def save(*arguments, **options):
        given = signature.bind(*arguments, **options).arguments
        path = given["path"]
        was_there = os.path.lexists(path)
        try:
            return save_model(*arguments, **options)
        except Exception as refusal:
            known = was_there or given.get("skops_trusted_types") is not None
            if known or "untrusted types" not in str(refusal):
                raise
            types_of_model = untrusted_types(given["sk_model"])
            if not types_of_model:
                raise
        # What the first attempt left would be refused as a folder that is not empty.
        shutil.rmtree(path, ignore_errors=True)
        say("note", "The model is saved by skops with the types it is made of: " + ", ".join(types_of_model))
        return save_model(*arguments, **{**options, "skops_trusted_types": types_of_model})

    flavor.save_model = save


TRUSTED_PACKAGES = ("sklearn", "numpy", "scipy", "xgboost", "lightgbm", "catboost", "imblearn")


def untrusted_types(model):
    try:
        import skops.io

        found = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except BaseException:
        return None  # saving says it better
    trusted = [name for name in found if name.partition(".")[0] in TRUSTED_PACKAGES]
    return trusted if len(trusted) == len(found) else None


def requirements(inferred, arguments, options):
    packages = JOB.get("packages")
    if not packages:
        return inferred(*arguments, **options)
    loaded = {name.partition(".")[0] for name in sys.modules}
    found = [
        "{}=={}".format(package["name"], package["version"])
        for package in packages
        if any(used(module, loaded) for module in package["modules"])
    ]
    return sorted(found)


def used(module, loaded):
    if module not in loaded:
        return False
    return module not in PRELOADED or module in JOB["modules"] or module in JOB["usual"]


if __name__ == "__main__":
    sys.exit(main())
