"""The farm's numbers for Prometheus: what only somebody sees who looks at all of it."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from medley_producer.dashboard.views import FarmView

_ENDED = ("finished", "cancelled")


class FarmCollector(Collector):
    """What the watcher saw last. Batches that have ended are counted, and not told one by one."""

    def __init__(self, view: FarmView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        view = self._view
        yield _gauge("medley_up", "Whether Redis and storage could be looked at.", float(not view.problem))
        yield _gauge("medley_looked_at_timestamp_seconds", "When that was done last (Unix time).", view.at.timestamp())
        yield from _queues(view)
        yield from _batches(view)
        yield from _workers(view)


def page(view: FarmView) -> bytes:
    """All numbers as text."""
    registry = CollectorRegistry()
    registry.register(FarmCollector(view))
    return generate_latest(registry)


def _queues(view: FarmView) -> Iterator[Metric]:
    messages = GaugeMetricFamily(
        "medley_queue_messages", "Messages that wait, and that workers hold.", labels=["queue", "state"]
    )
    oldest = GaugeMetricFamily("medley_queue_oldest_seconds", "Age of the longest waiting message.", labels=["queue"])
    served = GaugeMetricFamily("medley_queue_served", "Whether a worker that is up serves it.", labels=["queue"])
    for queue in view.queues:
        messages.add_metric([queue.name, "waiting"], queue.waiting)
        messages.add_metric([queue.name, "unacknowledged"], queue.unacknowledged)
        oldest.add_metric([queue.name], queue.oldest_s or 0.0)
        served.add_metric([queue.name], float(queue.served))
    yield from (messages, oldest, served)
    yield _gauge(
        "medley_messages_set_aside", "Messages that medley did not send so, and that are not run.", view.set_aside
    )


def _batches(view: FarmView) -> Iterator[Metric]:
    states = GaugeMetricFamily("medley_batches", "Batches in storage.", labels=["state"])
    for name, count in Counter(batch.state for batch in view.batches).items():
        states.add_metric([name], count)
    jobs = GaugeMetricFamily("medley_batch_jobs", "Jobs of batches that have not ended.", labels=["batch", "state"])
    age = GaugeMetricFamily("medley_batch_age_seconds", "Since it was submitted.", labels=["batch"])
    progress = GaugeMetricFamily(
        "medley_batch_progress_ratio", "Steps that are made of those to be made, 0 to 1.", labels=["batch"]
    )
    stuck = GaugeMetricFamily("medley_batch_stuck_jobs", "Jobs of which no step was reported lately.", labels=["batch"])
    for batch in view.batches:
        if batch.state in _ENDED:
            continue
        for state in ("done", "failed", "painting", "left"):
            jobs.add_metric([batch.name, state], getattr(batch, state))
        age.add_metric([batch.name], (view.at - batch.created_at).total_seconds())
        progress.add_metric([batch.name], batch.progress)
        stuck.add_metric([batch.name], batch.stuck)
    yield from (states, jobs, age, progress, stuck)


def _workers(view: FarmView) -> Iterator[Metric]:
    painters = GaugeMetricFamily("medley_painters", "Painting processes that are up.", labels=["engine"])
    for engine, count in Counter(str(worker.engine) for worker in view.workers if not worker.silent).items():
        painters.add_metric([engine], count)
    silent = GaugeMetricFamily("medley_painter_silent_seconds", "Since a painting process spoke.", labels=["painter"])
    for worker in view.workers:
        silent.add_metric([worker.name], worker.silent_s)
    yield from (painters, silent)
    yield _gauge(
        "medley_painters_busy",
        "Painting processes that are at a job.",
        sum(bool(w.painting) and not w.silent for w in view.workers),
    )
    yield _gauge("medley_workers_stopped", "Workers that stopped of themselves in the last day.", len(view.stopped))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
