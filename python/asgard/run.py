"""A job that was started by this process, to follow, wait for or cancel."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, TextIO

from .errors import JobFailedError

if TYPE_CHECKING:
    from .client import AsgardMLOpsClient

__all__ = ["FINAL_STATUSES", "Run"]

FINAL_STATUSES = ("completed", "failed")


class Run:
    """One job. ``job`` is the newest job document that was seen."""

    def __init__(self, client: "AsgardMLOpsClient", job: Dict[str, Any]) -> None:
        self._client = client
        self.job = job
        self.job_id: str = job["job_id"]

    def __repr__(self) -> str:
        return "<asgard.Run {} {}>".format(self.job_id, self.status)

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``completed`` or ``failed``, as last seen."""
        return str(self.job["status"])

    def refresh(self) -> Dict[str, Any]:
        """Reads the job again."""
        self.job = self._client.get_job_status(self.job_id)
        return self.job

    def lines(self, poll_interval: float = 0.5) -> Iterator[str]:
        """The log's lines (without the line ends) as they come, until the job has ended."""
        offset, rest = 0, ""
        while True:
            # Ended is asked for before the last read: nothing is written to the log after the end.
            ended = self.refresh()["status"] in FINAL_STATUSES
            while True:
                page = self._client.log_page(self.job_id, offset)
                fresh = page["logs"]
                if page["next_offset"] == offset:
                    break
                offset = page["next_offset"]
                *complete, rest = (rest + fresh).split("\n")
                yield from complete
            if ended:
                if rest:
                    yield rest
                return
            time.sleep(poll_interval)

    def follow(
        self,
        file: Optional[TextIO] = None,
        poll_interval: float = 0.5,
        check: bool = True,
    ) -> Dict[str, Any]:
        """Prints the log while it grows and returns the final job document.

        Raises JobFailedError if the job failed, unless ``check`` is False. Interrupting this (Ctrl-C)
        does not stop the job.
        """
        out = sys.stdout if file is None else file
        for line in self.lines(poll_interval):
            print(line, file=out, flush=True)
        return self._result(check)

    def wait(
        self, timeout: float = 600, poll_interval: float = 5, check: bool = True
    ) -> Dict[str, Any]:
        """Waits silently; raises TimeoutError when the time is over, JobFailedError if the job failed."""
        self.job = self._client.wait_for_job(self.job_id, timeout, poll_interval)
        return self._result(check)

    def cancel(self) -> Dict[str, Any]:
        """Asks the server to stop the job."""
        self.job = self._client.cancel_job(self.job_id)
        return self.job

    def _result(self, check: bool) -> Dict[str, Any]:
        if check and self.status == "failed":
            raise JobFailedError(self.job)
        return self.job
