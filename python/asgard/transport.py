"""JSON over HTTP with retries, on urllib alone."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping, Optional

from .errors import AsgardError, UnreachableError, from_answer

__all__ = ["Transport"]

RETRIED_STATUSES = frozenset((429, 502, 503, 504))
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Transport:
    """Sends requests to one server. Has no state between requests, so threads may share it."""

    def __init__(
        self, base_url: str, token: Optional[str], timeout_s: float, attempts: int
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(
                "base_url must look like http://HOST:PORT, got {!r}".format(base_url)
            )
        self.base_url = base_url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "asgard-python"}
        if token:
            self._headers["Authorization"] = "Bearer " + token
        self._timeout_s = timeout_s
        self._attempts = max(1, attempts)
        # Without a redirect handler a token can never travel on to another host.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def get(self, path: str, query: Optional[Mapping[str, Any]] = None) -> Any:
        """Gets a JSON document; query entries that are None are left out."""
        if query:
            given = {name: value for name, value in query.items() if value is not None}
            path += "?" + urllib.parse.urlencode(given)
        return self._send("GET", path, None, {}, repeatable=True)

    def post(
        self,
        path: str,
        body: Any,
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = False,
    ) -> Any:
        """Posts a JSON document. Only a ``repeatable`` one is sent again when no answer came."""
        data = json.dumps(body, allow_nan=False, default=_plain).encode("utf-8")
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        return self._send("POST", path, data, all_headers, repeatable)

    def _send(
        self,
        method: str,
        path: str,
        data: Optional[bytes],
        headers: Mapping[str, str],
        repeatable: bool,
    ) -> Any:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send_once(method, path, data, headers)
            except AsgardError as error:
                wanted_pause_s = getattr(error, "retry_after_s", None)
                again = repeatable and (
                    error.status is None or error.status in RETRIED_STATUSES
                )
                if not again or attempt >= self._attempts:
                    raise
            time.sleep(_pause_s(attempt, wanted_pause_s))

    def _send_once(
        self, method: str, path: str, data: Optional[bytes], headers: Mapping[str, str]
    ) -> Any:
        request = urllib.request.Request(
            self.base_url + path,
            data=data,
            headers={**self._headers, **headers},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return _document(response.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(
                "no answer from {}: {}".format(self.base_url, reason),
                code="unreachable",
                help="start the server with `asgard up`, or give the right base_url; "
                "inside Kubernetes: kubectl port-forward -n asgard svc/asgard-app 8000:80",
            ) from error


def _refusal(error: urllib.error.HTTPError) -> AsgardError:
    with error:
        try:
            body = _document(error.read())
        except (OSError, http.client.HTTPException, AsgardError):
            body = None
    refusal = from_answer(error.code, body, error.headers.get("x-request-id"))
    try:
        setattr(refusal, "retry_after_s", float(error.headers.get("Retry-After", "")))
    except ValueError:
        pass
    return refusal


def _document(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body.decode("utf-8"))
    except ValueError:
        raise AsgardError(
            "the answer is not JSON: {!r}".format(body[:100]),
            code="not_asgard",
            help="is this address an asgard server?",
            status=200,
        ) from None


def _pause_s(attempt: int, wanted_s: Optional[float]) -> float:
    """Doubles from 0.2 s with jitter; a server's Retry-After wins, but never for more than 30 s."""
    if wanted_s is not None and wanted_s >= 0:
        return min(wanted_s, 30.0)
    longest = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S)
    return random.uniform(longest / 2, longest)


def _plain(value: Any) -> Any:
    """numpy scalars and arrays, pandas columns: anything that knows how to become plain."""
    for method in ("tolist", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError("cannot send {} as JSON".format(type(value).__name__))
