"""asgard: train, register and serve models from Python scripts.

Inside a job: ``asgard.progress(0.4)`` and ``asgard.log("epoch", 3)``.
Outside: ``asgard.AsgardMLOpsClient()``.
"""

from __future__ import annotations

from .job import current_job_id, log, progress

__all__ = ["current_job_id", "log", "progress"]
__version__ = "0.1.0"
