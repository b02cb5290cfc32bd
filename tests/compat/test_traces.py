"""Traces that come by OTLP, and what people think of them, read back by MLflow's own client."""

import gzip
import json
import os
import time
import urllib.error
import urllib.request

import pytest

mlflow = pytest.importorskip("mlflow")
trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from mlflow import MlflowClient  # noqa: E402

pytestmark = pytest.mark.mlflow

MAJOR, MINOR = (int(part) for part in mlflow.__version__.split(".")[:2])


def export(trace_id, children=1):
    """A root span with children, as an OpenTelemetry SDK sends it."""
    request = trace_service.ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for number in range(children + 1):
        span = spans.add()
        span.trace_id = trace_id
        span.span_id = bytes([0, 0, 0, 0, 0, 0, 0, number + 1])
        span.name = "root" if number == 0 else f"child {number}"
        span.start_time_unix_nano = now + number * 1_000_000
        span.end_time_unix_nano = now + 50_000_000
        span.status.code = 1
        if number:
            span.parent_span_id = spans[0].span_id
        attribute = span.attributes.add()
        attribute.key = "answer"
        attribute.value.int_value = 42
    inputs = spans[0].attributes.add()
    inputs.key = "mlflow.spanInputs"
    pair = inputs.value.kvlist_value.values.add()
    pair.key = "q"
    pair.value.string_value = "why?"
    return request.SerializeToString()


def send(server, body, experiment_id="0", **headers):
    headers = {
        "content-type": "application/x-protobuf",
        "x-mlflow-experiment-id": experiment_id,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    request = urllib.request.Request(server.url + "/v1/traces", body, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-type"] == "application/x-protobuf"
        return answer.read()


@pytest.fixture
def client(server):
    mlflow.set_tracking_uri(server.url)
    return MlflowClient(server.url, server.url)


def test_spans_of_an_opentelemetry_sdk_are_a_trace(server, client):
    experiment_id = client.create_experiment(f"otlp-{os.urandom(4).hex()}")
    trace_id = os.urandom(16)
    send(server, gzip.compress(export(trace_id, 2)), experiment_id, content_encoding="gzip")
    name = "tr-" + trace_id.hex()
    if MAJOR >= 3:
        found = mlflow.search_traces(experiment_ids=[experiment_id], return_type="list", include_spans=False)
        assert [trace.info.trace_id for trace in found] == [name]
        assert found[0].info.request_preview == '{"q":"why?"}'
        assert str(found[0].info.state).endswith("OK") and found[0].info.execution_duration == 50
    # Clients up to 3.5 look for spans among the artifacts only.
    if (MAJOR, MINOR) > (3, 5):
        trace = mlflow.get_trace(name)
        assert {span.name for span in trace.data.spans} == {"root", "child 1", "child 2"}
        root = next(span for span in trace.data.spans if span.name == "root")
        assert root.inputs == {"q": "why?"} and root.attributes["answer"] == 42
        assert all(span.trace_id == name for span in trace.data.spans)
    url = f"{server.url}/ajax-api/2.0/mlflow/get-trace-artifact?request_id={name}"
    with urllib.request.urlopen(url) as answer:
        assert answer.read().count(b'"span_id"') == 3


@pytest.mark.parametrize(
    "body, headers",
    [
        (b"nonsense", {}),
        (b"", {}),
        (b"\x1f\x8bnonsense", {"content_encoding": "gzip"}),
        (export(b"short"), {}),
        (export(bytes(16)), {"content_encoding": "br"}),
        (export(bytes(16)), {"content_type": "application/json"}),
        (export(bytes(16)), {"content_type": "text/plain"}),
        (export(bytes(16)), {"x_mlflow_experiment_id": "nothing"}),
        (export(bytes(16)), {"x_mlflow_experiment_id": "987654"}),
    ],
)
def test_what_is_no_export_is_refused(server, body, headers):
    with pytest.raises(urllib.error.HTTPError) as refused:
        send(server, body, **{"experiment_id": "0", **headers})
    assert 400 <= refused.value.code < 500


@pytest.mark.skipif((MAJOR, MINOR) < (3, 2), reason="this client knows no assessments")
def test_assessments_come_back_with_their_trace(server, client):
    trace_id = os.urandom(16)
    send(server, export(trace_id))
    name = "tr-" + trace_id.hex()
    feedback = mlflow.log_feedback(trace_id=name, name="good", value=0.5, rationale="so so")
    mlflow.log_expectation(trace_id=name, name="truth", value={"a": [1, 2]})
    changed = mlflow.override_feedback(trace_id=name, assessment_id=feedback.assessment_id, value=0.9)
    (trace,) = mlflow.search_traces(
        experiment_ids=["0"], filter_string=f"trace_id = '{name}'", return_type="list", include_spans=False
    )
    assessments = {a.assessment_id: a for a in trace.info.assessments}
    assert len(assessments) == 3
    assert assessments[changed.assessment_id].feedback.value == 0.9
    assert assessments[feedback.assessment_id].valid is False
    truth = next(a for a in assessments.values() if a.name == "truth")
    assert truth.expectation.value == {"a": [1, 2]}
    mlflow.delete_assessment(trace_id=name, assessment_id=truth.assessment_id)
    assert mlflow.get_assessment(name, changed.assessment_id).feedback.value == 0.9
    with pytest.raises(mlflow.exceptions.MlflowException):
        mlflow.get_assessment(name, truth.assessment_id)


@pytest.mark.skipif((MAJOR, MINOR) < (3, 6), reason="this client's search knows no spans")
def test_traces_are_found_by_their_spans_and_by_the_runs_they_are_linked_to(server, client):
    experiment_id = client.create_experiment(f"spans-{os.urandom(4).hex()}")
    ids = [os.urandom(16) for _ in range(3)]
    for children, trace_id in enumerate(ids, 1):
        send(server, export(trace_id, children), experiment_id)
    names = ["tr-" + trace_id.hex() for trace_id in ids]

    def found(filter_string):
        traces = mlflow.search_traces(
            experiment_ids=[experiment_id], filter_string=filter_string, return_type="list", include_spans=False
        )
        return {trace.info.trace_id for trace in traces}

    assert found("span.name = 'child 3'") == {names[2]}
    assert found("span.name LIKE 'child%'") == set(names)
    assert found("span.attributes.answer LIKE '%42%'") == set(names)
    assert found("trace.text LIKE '%child 2%'") == set(names[1:])
    assert found("trace.text LIKE '%nothing like it%'") == set()
    run = client.create_run(experiment_id)
    store = client._tracing_client.store
    store.link_traces_to_run(names[:2], run.info.run_id)
    assert found(f"attributes.run_id = '{run.info.run_id}'") == set(names[:2])
    told = store.calculate_trace_filter_correlation([experiment_id], "span.name = 'child 2'", "span.name = 'child 3'")
    assert (told.filter1_count, told.filter2_count, told.joint_count, told.total_count) == (2, 1, 1, 3)
    assert 0 < told.npmi < 1 and told.npmi_smoothed is not None


def test_spans_may_come_as_json(server, client):
    experiment_id = client.create_experiment(f"json-{os.urandom(4).hex()}")
    trace_id, now = os.urandom(16).hex(), time.time_ns()
    span = {"traceId": trace_id, "spanId": "01" * 8, "name": "call", "startTimeUnixNano": str(now)}
    span["endTimeUnixNano"] = str(now + 5_000_000)
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    headers = {"content-type": "application/json", "x-mlflow-experiment-id": experiment_id}
    request = urllib.request.Request(server.url + "/v1/traces", body, headers)
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer) == {}
    # Clients up to 3.5 look for spans among the artifacts only.
    with urllib.request.urlopen(f"{server.url}/api/3.0/mlflow/traces/tr-{trace_id}") as answer:
        info = json.load(answer)["trace"]["trace_info"]
    assert (info["state"], info["execution_duration"]) == ("OK", "0.005s")
