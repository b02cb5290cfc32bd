"""What a training script can tell the platform while it runs as a job.

The protocol is one line on standard output, alone on its line::

    ::asgard progress 0.4::

asgard turns such a line into the job's ``progress`` and keeps it out of the log. Any language, or a
plain ``print(..., flush=True)``, may write it; these functions only spare the typing. Outside a job
nothing reads the line and it does no harm.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any, Optional

__all__ = ["current_job_id", "log", "progress"]


def progress(fraction: float) -> None:
    """Reports how much of the job is done, from 0.0 to 1.0.

    Raises ValueError for anything outside that range.
    """
    value = float(fraction)
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        raise ValueError(
            "progress is a fraction from 0.0 to 1.0, not {!r} "
            "(divide percentages by 100)".format(fraction)
        )
    _write_line("::asgard progress {!r}::".format(round(value, 4)))


def log(*values: Any, **fields: Any) -> None:
    """Writes one line into the job's log at once: ``log("epoch", 3, loss=0.21)`` -> ``epoch 3 loss=0.21``."""
    words = [str(value) for value in values]
    words += ["{}={}".format(name, value) for name, value in fields.items()]
    _write_line(" ".join(words))


def current_job_id() -> Optional[str]:
    """The id of the job that this process runs in, None outside a job."""
    return os.environ.get("ASGARD_JOB_ID") or None


def _write_line(line: str) -> None:
    # One write and one flush, so that a line of another thread cannot land inside this one.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
