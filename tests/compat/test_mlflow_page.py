"""MLflow's own page on asgard, looked at with Chromium: every page shows what was logged, no call
fails, the console has no errors, and nothing is asked of another server.

ASGARD_TEST_SCREENSHOTS names a folder for pictures of the pages.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
from urllib.parse import quote, urlparse

import pytest

mlflow = pytest.importorskip("mlflow")
playwright = pytest.importorskip("playwright.sync_api")

from conftest import ROOT, Server  # noqa: E402

pytestmark = pytest.mark.page

# The machine may be busy.
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with MLflow's page, at its own path and at the root of a second address."""
    server = Server(tmp_path_factory.mktemp("page") / "data")
    binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
    install = [binary, "mlflow-ui", "install", "--data-dir", server.data_dir]
    subprocess.run(list(map(str, install)), check=True, timeout=600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server.second = f"127.0.0.1:{probe.getsockname()[1]}"
    server.start("--mlflow-listen", server.second)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def logged(site):
    """What a data scientist logs: runs with histories and files, a dataset, models, versions."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    mlflow.set_tracking_uri(site.url)
    mlflow.set_registry_uri(site.url)
    experiment = mlflow.set_experiment("houses")
    frame = pd.DataFrame({"rooms": [1.0, 2.0, 3.0], "price": [10.0, 20.0, 30.0]})
    runs = []
    for name, rate in [("steady", 0.1), ("hasty", 0.5)]:
        with mlflow.start_run(run_name=name) as run:
            mlflow.log_params({"rate": rate, "depth": 3})
            mlflow.set_tag("team", "blue")
            mlflow.log_input(mlflow.data.from_pandas(frame, name="houses-2026"), context="training")
            for step in range(50):
                mlflow.log_metrics({"loss": 1 / (1 + rate * step), "accuracy": step / 50}, step=step)
            mlflow.log_text("a note about the houses", "notes.txt")
            mlflow.log_dict({"rooms": [1, 2]}, "config/rooms.json")
            mlflow.log_image(np.zeros((8, 8, 3), dtype=np.uint8), "black.png")
            # What a script logs must not run in the page (CVE-2024-27132).
            mlflow.log_text("<script>parent.broken = document.domain</script><b>report</b>", "report.html")
            info = mlflow.sklearn.log_model(
                LinearRegression().fit(frame[["rooms"]], frame["price"]),
                name="model",
                input_example=frame[["rooms"]],
                registered_model_name="house-prices",
                pip_requirements=["scikit-learn"],
            )
        runs.append(run.info.run_id)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("house-prices", "champion", "2")
    return {"experiment": experiment.experiment_id, "runs": runs, "model": info.model_id}


@pytest.fixture(scope="module")
def browser():
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    assert binary, "Chromium is needed: install the Debian package chromium"
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not start for root; some charts need WebGL, which needs no
        # graphics card this way.
        options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=binary, args=options)
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what went wrong on it."""

    def __init__(self, browser, url):
        self.url = url
        self.wrong = []
        self.asked = 0
        self.pending = set()
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", self._exception)
        self.page.on("response", self._response)
        self.page.on("request", self._request)
        for event in ("requestfinished", "requestfailed"):
            self.page.on(event, lambda request: self.pending.discard(request.url))

    def _console(self, message):
        # Chromium's way to say that a layout took two rounds; MLflow's page does that anywhere.
        if message.type == "error" and "ResizeObserver loop" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def _exception(self, error):
        if "ResizeObserver loop" not in str(error):
            self.wrong.append(f"exception: {error}")

    def _response(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.request.method} {response.url}")

    def _request(self, request):
        self.asked += 1
        # Nobody is told when the script of a worker has come.
        if not request.url.endswith(".worker.js"):
            self.pending.add(request.url)
        address = urlparse(request.url)
        if address.scheme in ("http", "https") and address.netloc != urlparse(self.url).netloc:
            self.wrong.append(f"asked elsewhere: {request.url}")

    def go(self, place, *texts, name=None):
        """Opens a place of the page and waits until it shows each text."""
        self.page.goto(f"{self.url}{place}")
        self.see(*texts, name=name)

    def see(self, *texts, name=None):
        for text in texts:
            try:
                self.page.get_by_text(text, exact=False).filter(visible=True).first.wait_for()
            except playwright.Error as error:
                self.picture(f"{name}-failed")
                raise AssertionError(f"{self.page.url} does not show {text!r}; {self.wrong}") from error
        self.settle()
        self.picture(name)

    def click(self, text):
        self.page.get_by_text(text, exact=True).filter(visible=True).first.click()

    def settle(self):
        """Waits until the page has asked for nothing for a second."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < end:
            before = len(self.pending), self.asked
            self.page.wait_for_timeout(1000)
            if not self.pending and before == (0, self.asked):
                return
        raise AssertionError(f"the page does not come to rest: {self.pending}")

    def picture(self, name):
        folder = os.environ.get("ASGARD_TEST_SCREENSHOTS")
        if folder and name:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{folder}/{name}.png")

    def close(self):
        self.page.close()
        assert not self.wrong, "\n".join(self.wrong)


@pytest.fixture
def visit(browser, site):
    visit = Visit(browser, f"{site.url}/mlflow/")
    yield visit
    visit.close()


def test_experiments_and_their_runs(visit, logged):
    visit.go("#/experiments", "houses", name="experiments")
    runs = f"#/experiments/{logged['experiment']}/runs"
    visit.go(runs, "steady", "hasty", "houses-2026", name="runs")


def test_charts_of_runs(visit, logged):
    runs = f"#/experiments/{logged['experiment']}/runs"
    visit.go(f"{runs}?compareRunsMode=CHART", "loss", "accuracy", name="charts")
    visit.page.locator(".js-plotly-plot").first.wait_for()
    visit.picture("charts")


def test_a_run_with_its_charts_and_files(visit, logged):
    run = f"#/experiments/{logged['experiment']}/runs/{logged['runs'][0]}"
    visit.go(run, "steady", "depth", "house-prices", "houses-2026", name="run")
    visit.go(f"{run}/model-metrics", "loss", "accuracy", name="run-charts")
    visit.page.locator(".js-plotly-plot").first.wait_for()
    visit.picture("run-charts")
    visit.go(f"{run}/artifacts", "notes.txt", "config", name="run-files")
    visit.click("notes.txt")
    visit.see("a note about the houses", name="run-text")
    visit.click("config")
    visit.click("rooms.json")
    visit.see('"rooms"', name="run-json")
    visit.click("black.png")
    visit.page.locator("canvas, img[src^='blob:'], .js-plotly-plot image").first.wait_for()
    visit.settle()
    visit.picture("run-image")


def test_a_logged_page_runs_no_script(visit, logged):
    run = f"#/experiments/{logged['experiment']}/runs/{logged['runs'][0]}"
    visit.go(f"{run}/artifacts", "report.html")
    visit.click("report.html")
    visit.page.frame_locator("iframe").get_by_text("report").wait_for()
    visit.settle()
    visit.picture("run-html")
    assert visit.page.evaluate("window.broken") is None
    # Chromium tells in the console that it blocked the script: that is what is wanted.
    visit.wrong = [wrong for wrong in visit.wrong if "Content Security Policy" not in wrong and "sandboxed" not in wrong]


def test_runs_are_compared(visit, logged):
    runs = quote(json.dumps(logged["runs"]))
    experiments = quote(json.dumps([logged["experiment"]]))
    visit.go(f"#/compare-runs?runs={runs}&experiments={experiments}", "steady", "hasty", "rate", name="compare")
    visit.page.locator(".js-plotly-plot canvas").first.wait_for()
    assert not visit.page.get_by_text("WebGL is not supported").is_visible()
    visit.picture("compare")


def test_models_versions_and_aliases(visit, logged):
    visit.go("#/models", "house-prices", name="models")
    visit.go("#/models/house-prices", "champion", "Version 2", name="model")
    visit.go("#/models/house-prices/versions/2", "champion", "hasty", "Inputs (1)")
    visit.click("Inputs (1)")
    visit.see("rooms", name="version")


def test_logged_models(visit, logged):
    experiment = f"#/experiments/{logged['experiment']}"
    visit.go(f"{experiment}/models", "model", "steady", name="logged-models")
    visit.go(f"{experiment}/models/{logged['model']}", logged["model"], name="logged-model")
    visit.go(f"{experiment}/models/{logged['model']}/artifacts", "MLmodel", name="logged-model-files")


def test_the_page_stands_at_the_root_of_the_second_address(browser, site, logged):
    visit = Visit(browser, f"http://{site.second}/")
    visit.go("#/experiments", "houses", name="second-experiments")
    run = f"#/experiments/{logged['experiment']}/runs/{logged['runs'][0]}"
    visit.go(run, "steady", "house-prices", name="second-run")
    visit.close()


def test_the_page_changes_what_it_shows(visit, logged):
    client = mlflow.MlflowClient(visit.url.removesuffix("/mlflow/"))
    run_id = logged["runs"][1]
    visit.go(f"#/experiments/{logged['experiment']}/runs/{run_id}", "hasty")
    status = visit.page.evaluate(
        """async run_id => (await fetch('ajax-api/2.0/mlflow/runs/set-tag', {
            method: 'POST', headers: {'content-type': 'application/json'},
            body: JSON.stringify({run_id, key: 'seen', value: 'yes'})})).status""",
        run_id,
    )
    assert status == 200
    assert client.get_run(run_id).data.tags["seen"] == "yes"
