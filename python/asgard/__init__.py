"""asgard: train, register and serve models from Python scripts.

Inside a job: ``asgard.progress(0.4)`` and ``asgard.log("epoch", 3)``.
Outside: ``asgard.AsgardMLOpsClient()``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from .job import current_job_id, log, progress

if TYPE_CHECKING:
    from .client import AsgardMLOpsClient
    from .errors import (
        AsgardError,
        AuthenticationError,
        ConflictError,
        InvalidRequestError,
        JobFailedError,
        NotFoundError,
        UnavailableError,
        UnreachableError,
    )
    from .run import Run

__all__ = [
    "AsgardError",
    "AsgardMLOpsClient",
    "AuthenticationError",
    "ConflictError",
    "InvalidRequestError",
    "JobFailedError",
    "NotFoundError",
    "Run",
    "UnavailableError",
    "UnreachableError",
    "current_job_id",
    "log",
    "progress",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A training script that only reports progress does not pay for the import of an HTTP client.
    if name not in __all__:
        raise AttributeError("module 'asgard' has no attribute {!r}".format(name))
    module = {"AsgardMLOpsClient": ".client", "Run": ".run"}.get(name, ".errors")
    return getattr(import_module(module, __name__), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
