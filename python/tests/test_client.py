"""The client against a small HTTP server that answers from a script."""

import base64
import json
import math
import os
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import mock

import asgard
from asgard import transport


class ScriptedServer:
    """Gives the prepared answers in order and remembers what was asked."""

    def __init__(self):
        self.answers = []
        self.requests = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                server.requests.append(
                    (self.command, self.path, dict(self.headers), json.loads(body) if body else None)
                )
                status, headers, document = server.answers.pop(0)
                if status is None:
                    self.close_connection = True
                    return
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

            def log_message(self, *args):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:{}".format(self.http.server_address[1])
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def will_answer(self, document, status=200, headers=None):
        self.answers.append((status, headers or {}, document))

    def will_hang_up(self):
        self.answers.append((None, {}, None))

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.server = ScriptedServer()
        self.addCleanup(self.server.close)
        # No pauses between retries, and no token of whoever runs the tests.
        for patch in (
            mock.patch.object(transport, "FIRST_PAUSE_S", 0.0),
            mock.patch.dict(os.environ, {"ASGARD_TOKEN": ""}),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        self.client = asgard.AsgardMLOpsClient(self.server.url, attempts=3)

    def script(self, text="print('✅')\n"):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "train.py")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path


class Address(ClientTest):
    def test_comes_from_the_environment_unless_it_is_given(self):
        with mock.patch.dict(os.environ, {"ASGARD_URL": "http://there:1"}):
            self.assertEqual(asgard.AsgardMLOpsClient().base_url, "http://there:1")
            self.assertEqual(asgard.AsgardMLOpsClient("http://x:2").base_url, "http://x:2")
        with mock.patch.dict(os.environ, {"ASGARD_URL": ""}):
            self.assertEqual(asgard.AsgardMLOpsClient().base_url, "http://localhost:8000")


class Upload(ClientTest):
    def test_sends_the_documented_fields(self):
        self.server.will_answer({"job_id": "j1", "status": "queued"}, 202)
        job = self.client.upload_script(
            self.script(), "exp", "model", requirements=["pandas"], timeout=600, tags=None
        )
        self.assertEqual(job["job_id"], "j1")
        method, path, headers, body = self.server.requests[0]
        self.assertEqual((method, path), ("POST", "/mlops/training/upload"))
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(base64.b64decode(body.pop("script_content")).decode(), "print('✅')\n")
        self.assertEqual(
            body,
            {
                "script_name": "train.py",
                "experiment_name": "exp",
                "model_name": "model",
                "requirements": ["pandas"],
                "timeout": 600,
            },
        )

    def test_is_repeated_with_the_same_idempotency_key(self):
        self.server.will_hang_up()
        self.server.will_answer({"message": "busy"}, 503, {"Retry-After": "0"})
        self.server.will_answer({"job_id": "j1", "status": "queued"}, 202)
        self.client.upload_script(self.script(), "exp", "model")
        keys = {headers["Idempotency-Key"] for _, _, headers, _ in self.server.requests}
        self.assertEqual(len(self.server.requests), 3)
        self.assertEqual(len(keys), 1)

    def test_a_missing_script_is_the_files_own_error(self):
        with self.assertRaises(FileNotFoundError):
            self.client.upload_script("/nowhere/train.py", "exp", "model")
        self.assertEqual(self.server.requests, [])


class Refusals(ClientTest):
    def test_carry_code_help_and_request_id(self):
        self.server.will_answer(
            {
                "error": "Not Found",
                "detail": "job j1 does not exist",
                "message": "job j1 does not exist",
                "code": "not_found",
                "help": "list them with GET /mlops/training/jobs",
                "request_id": "r-7",
            },
            404,
        )
        with self.assertRaises(asgard.NotFoundError) as caught:
            self.client.get_job_status("j1")
        error = caught.exception
        self.assertEqual(
            (error.code, error.request_id, error.status), ("not_found", "r-7", 404)
        )
        self.assertIn("help: list them", str(error))

    def test_show_the_fields_of_a_422(self):
        fields = [{"loc": ["body", "timeout"], "msg": "must be 60-3600", "type": "value_error"}]
        self.server.will_answer({"detail": fields, "message": "timeout: must be 60-3600"}, 422)
        with self.assertRaisesRegex(asgard.InvalidRequestError, "60-3600") as caught:
            self.client.upload_script(self.script(), "exp", "model", timeout=1)
        self.assertEqual(caught.exception.details, fields)
        self.assertEqual(len(self.server.requests), 1)

    def test_have_a_class_for_each_kind(self):
        for status, kind in (
            (401, asgard.AuthenticationError),
            (403, asgard.AuthenticationError),
            (409, asgard.ConflictError),
            (500, asgard.UnavailableError),
        ):
            with self.subTest(status=status):
                self.server.will_answer({"message": "no"}, status)
                with self.assertRaises(kind):
                    self.client.get_status()

    def test_an_answer_that_is_no_json_is_named(self):
        self.server.will_answer(b"<html>", 200)
        with self.assertRaisesRegex(asgard.AsgardError, "not JSON"):
            self.client.get_status()

    def test_a_server_that_is_not_there_says_how_to_start_one(self):
        client = asgard.AsgardMLOpsClient("http://127.0.0.1:1", attempts=2)
        with self.assertRaisesRegex(asgard.UnreachableError, "asgard up"):
            client.get_status()

    def test_redirects_are_not_followed_with_the_token(self):
        client = asgard.AsgardMLOpsClient(self.server.url, token="secret")
        self.server.will_answer({}, 302, {"Location": self.server.url + "/elsewhere"})
        with self.assertRaises(asgard.AsgardError):
            client.get_status()
        self.assertEqual(len(self.server.requests), 1)

    def test_a_base_url_without_scheme_is_refused_at_once(self):
        with self.assertRaisesRegex(ValueError, "http://HOST:PORT"):
            asgard.AsgardMLOpsClient("localhost:8000")


class Waiting(ClientTest):
    def test_returns_the_final_document(self):
        for status in ("queued", "running", "completed"):
            self.server.will_answer({"job_id": "j1", "status": status})
        job = self.client.wait_for_job("j1", poll_interval=0)
        self.assertEqual(job["status"], "completed")

    def test_raises_timeout_error_when_the_time_is_over(self):
        self.server.will_answer({"job_id": "j1", "status": "running"})
        with self.assertRaisesRegex(TimeoutError, "Job j1 did not complete within 0s"):
            self.client.wait_for_job("j1", timeout=0)


class Following(ClientTest):
    def job(self, status, **more):
        self.server.will_answer({"job_id": "j1", "status": status, **more})

    def page(self, logs, next_offset):
        self.server.will_answer({"logs": logs, "next_offset": next_offset})

    def test_prints_whole_lines_as_they_come(self):
        self.server.will_answer({"job_id": "j1", "status": "queued"}, 202)
        run = self.client.run(self.script())
        self.job("running")
        self.page("one\ntw", 6)
        self.page("", 6)
        self.job("completed", run_id="r1")
        self.page("o\nthree", 13)
        self.page("", 13)
        with tempfile.TemporaryFile("w+") as out:
            job = run.follow(file=out, poll_interval=0)
            out.seek(0)
            self.assertEqual(out.read(), "one\ntwo\nthree\n")
        self.assertEqual(job["run_id"], "r1")
        body = self.server.requests[0][3]
        self.assertEqual((body["model_name"], body["experiment_name"]), ("train", "train"))

    def test_a_failed_job_raises_with_its_document(self):
        self.server.will_answer({"job_id": "j1", "status": "queued"}, 202)
        run = self.client.run(self.script())
        self.job("failed", error="No module named 'xyz'", error_info={"help": "add xyz"}, reason="user")
        self.page("", 0)
        with self.assertRaisesRegex(asgard.JobFailedError, "add xyz") as caught:
            run.follow(poll_interval=0)
        self.assertEqual(caught.exception.job["reason"], "user")


class Predicting(ClientTest):
    def predicted(self, inputs, **more):
        self.server.will_answer({"predictions": [0]})
        self.client.predict("m", inputs, **more)
        return self.server.requests[-1][3]

    def test_sends_columns(self):
        body = self.predicted({"a": [1, 2]}, model_version=3, return_probabilities=True)
        self.assertEqual(
            body,
            {
                "model_name": "m",
                "model_version": "3",
                "inputs": {"a": [1, 2]},
                "return_probabilities": True,
            },
        )

    def test_columns_may_be_left_to_the_feature_store(self):
        body = self.predicted({"id": [1]}, features_from=["customers"])
        self.assertEqual(body["features_from"], ["customers"])
        self.assertNotIn("features_from", self.predicted({"id": [1]}))

    def test_turns_rows_into_columns(self):
        body = self.predicted([{"a": 1, "b": 2}, {"a": 3}])
        self.assertEqual(body["inputs"], {"a": [1, 3], "b": [2, None]})
        self.assertNotIn("model_version", body)

    def test_names_the_columns_of_a_matrix_by_their_place(self):
        body = self.predicted([[1, 2.5], (3, math.nan)])
        self.assertEqual(body["inputs"], {"0": [1, 3], "1": [2.5, None]})

    def test_a_ragged_matrix_is_explained(self):
        with self.assertRaisesRegex(TypeError, "rows of equal length"):
            self.client.predict("m", [[1], [2, 3]])

    def test_nan_travels_as_null(self):
        self.assertEqual(self.predicted({"a": [math.nan]})["inputs"], {"a": [None]})

    def test_one_value_instead_of_a_column_is_explained(self):
        with self.assertRaisesRegex(TypeError, "list of values"):
            self.client.predict("m", {"a": 5})

    def test_takes_a_dataframe_like_table(self):
        class Column(list):
            def tolist(self):
                return list(self)

        class Table(dict):
            @property
            def columns(self):
                return list(self)

            def to_dict(self):
                raise AssertionError("not needed")

        table = Table(a=Column([1.5, math.nan]))
        self.assertEqual(self.predicted(table)["inputs"], {"a": [1.5, None]})


class Others(ClientTest):
    def test_a_token_is_sent_as_bearer(self):
        client = asgard.AsgardMLOpsClient(self.server.url, token="k1")
        self.server.will_answer([])
        client.list_models()
        self.assertEqual(self.server.requests[0][2]["Authorization"], "Bearer k1")

    def test_job_ids_cannot_leave_their_path(self):
        self.server.will_answer({"job_id": "x", "status": "failed"})
        self.client.cancel_job("../../x?y")
        self.assertEqual(
            self.server.requests[0][1], "/mlops/training/jobs/..%2F..%2Fx%3Fy/cancel"
        )

    def test_a_job_is_run_again_once_however_often_it_is_sent(self):
        self.server.will_answer({"job_id": "new", "status": "queued"}, 202)
        self.assertEqual(self.client.rerun_job("old")["job_id"], "new")
        _, path, headers = self.server.requests[0][:3]
        self.assertEqual(path, "/mlops/training/jobs/old/rerun")
        self.assertTrue(headers["Idempotency-Key"])

    def test_a_feature_view_is_posted_as_documented(self):
        self.server.will_answer({"name": "v"}, 201)
        self.client.create_feature_view(
            "v",
            ["customer_id"],
            [{"name": "n", "dtype": "int64"}],
            {"table_name": "t", "catalog": "iceberg", "schema": "gold"},
            ttl_days=365,
        )
        _, path, _, body = self.server.requests[0]
        self.assertEqual(path, "/feast/features")
        self.assertEqual(body["ttl_days"], 365)


if __name__ == "__main__":
    unittest.main()
