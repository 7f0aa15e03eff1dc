"""Whose fault a failure is: the job's, or that of the worker on which it failed.

A GPU that computes NaN, or an installation that is torn, fails one job after another and so empties the queue. A
failure that may be a machine's is therefore tried by a second worker, where there is one. If that one paints the job,
it is held against the first; and a worker against which MEDLEY_SUSPECT_JOBS jobs are held takes no more.
"""

import time

from medley.broker.ledger import Ledger
from medley.records.base import JobId
from medley.settings import Settings

MACHINES_OWN = frozenset({"numbers", "bug", "weights"})
"""Kinds of failures that may be a machine's fault; a broken picture is broken everywhere."""


OTHERS_TRY_WITHIN_S = 300.0
"""Another worker has this long to come to a job that failed here: it may be painting, or serve other queues only."""


def worker_of(painter: str) -> str:
    """The worker that a painting process, ``<worker>#<index>``, belongs to."""
    return painter.rpartition("#")[0] or painter


def shall_others_try(ledger: Ledger, job: JobId, painter: str, kind: str) -> bool:
    """Whether a job that failed here is to be tried by another worker first: once, if there is one and it may help."""
    if kind not in MACHINES_OWN or not ledger.suspect(job, worker_of(painter)):
        return False
    failed_on = set(ledger.suspects(job))
    return len(failed_on) == 1 and bool(others_than(ledger, failed_on))


def leave_to_others(ledger: Ledger, job: JobId, painter: str) -> bool:
    """Whether a job failed here so lately that another worker, if one is up, may still come to try it."""
    failed_at = ledger.suspects(job).get(worker_of(painter), float("-inf"))
    return time.time() - failed_at < OTHERS_TRY_WITHIN_S and bool(others_than(ledger, {worker_of(painter)}))


def others_than(ledger: Ledger, workers: set[str]) -> set[str]:
    """The workers that are up, but for these."""
    return {worker_of(painter.name) for painter in ledger.painters()} - workers


def why_stop(ledger: Ledger, settings: Settings, worker: str) -> str | None:
    """Why a worker is to take no more jobs, if it is."""
    blamed = sorted(ledger.blamed(worker))
    if len(blamed) < settings.suspect_jobs:
        return None
    return (
        f"{len(blamed)} jobs failed here that other workers then painted ({', '.join(blamed[:3])}), so this machine "
        "is at fault. Look at its log, its GPU (`nvidia-smi`) and `medley doctor`, and start it again."
    )


def clock_sentence(skew_s: float) -> str:
    """What is wrong when two clocks disagree; leases compare them."""
    return (
        f"This machine's clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} Redis's, "
        "and leases compare the two. Set the clock (NTP), or raise MEDLEY_CLOCK_SKEW_S."
    )
