"""What can go wrong, with the server's own advice."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Type

__all__ = [
    "AsgardError",
    "AuthenticationError",
    "ConflictError",
    "InvalidRequestError",
    "JobFailedError",
    "NotFoundError",
    "UnavailableError",
    "UnreachableError",
]


class AsgardError(Exception):
    """A refused or failed request.

    ``message`` says what happened, ``help`` what to do about it, ``code`` is stable and made for programs,
    ``request_id`` finds the request in the server's log, ``status`` is the HTTP status (None if there was
    no answer), ``details`` is whatever more the server sent.
    """

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        help: Optional[str] = None,  # noqa: A002 - the field's name in the error envelope
        request_id: Optional[str] = None,
        status: Optional[int] = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.help = help
        self.request_id = request_id
        self.status = status
        self.details = details

    def __str__(self) -> str:
        lines = [self.message]
        if self.help:
            lines.append("help: " + self.help)
        if self.request_id:
            lines.append("request_id: " + self.request_id)
        return "\n".join(lines)


class AuthenticationError(AsgardError):
    """No token, a wrong one, or one that may not do this (401, 403)."""


class NotFoundError(AsgardError):
    """There is no such job, model or version (404)."""


class ConflictError(AsgardError):
    """It exists already, or is in a state that does not allow this (409)."""


class InvalidRequestError(AsgardError):
    """The request itself is wrong (400, 413, 415, 422); ``details`` may list the fields."""


class UnavailableError(AsgardError):
    """The server is overloaded or failed (429, 5xx), also after the retries."""


class UnreachableError(UnavailableError):
    """There was no answer at all, also after the retries."""


class JobFailedError(AsgardError):
    """A job ended as ``failed``. The whole job document is in ``job``."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        info: Mapping[str, Any] = job.get("error_info") or {}
        super().__init__(
            "job {} failed: {}".format(job.get("job_id"), job.get("error")),
            code=info.get("code") or job.get("reason"),
            help=info.get("help"),
            details=info or None,
        )
        self.job: Dict[str, Any] = dict(job)


def from_answer(status: int, body: Any, request_id: Optional[str]) -> AsgardError:
    """The exception for an answer of this status; reads asgard's envelope and MLflow's."""
    envelope: Mapping[str, Any] = body if isinstance(body, dict) else {}
    message = envelope.get("message") or envelope.get("detail")
    if not isinstance(message, str):
        message = "the server answered HTTP {}".format(status)
    details = envelope.get("details")
    if details is None and isinstance(envelope.get("detail"), list):
        details = envelope["detail"]
    return _class_of(status)(
        message,
        code=envelope.get("code") or envelope.get("error_code"),
        help=envelope.get("help"),
        request_id=envelope.get("request_id") or request_id,
        status=status,
        details=details,
    )


def _class_of(status: int) -> Type[AsgardError]:
    if status in (401, 403):
        return AuthenticationError
    if status == 404:
        return NotFoundError
    if status == 409:
        return ConflictError
    if status == 429 or status >= 500:
        return UnavailableError
    return InvalidRequestError
