"""What the dashboard tells, on its pages and as JSON. Times are UTC, durations in seconds, sizes in pixels."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medley.records.base import BatchName, JobId

BatchState = Literal["waiting", "painting", "ending", "finished", "paused", "cancelled"]
JobState = Literal["waiting", "painting", "done", "failed"]
Action = Literal["pause", "resume", "cancel", "retry"]


class View(BaseModel):
    """The base: frozen. Made from a record, it takes what it shows of that and leaves the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class BatchView(View):
    """A batch, and how far it is."""

    name: BatchName
    kind: Literal["style_transfer", "walk"]
    state: BatchState
    pairs: int = Field(description="lines of its manifest, which may share jobs")
    jobs: int
    done: int
    failed: int
    painting: int = Field(description="jobs that are being painted")
    skipped: int = Field(description="files of the dataset that could not be used")
    progress: float = Field(description="steps that need not be made any more, as a share of all; 0 to 1")
    jobs_a_minute: float | None = Field(description="over the last five minutes, while it is painted")
    eta_s: float | None = Field(description="until the last job has ended, at this rate")
    stuck: int = Field(description="jobs of which no step was reported for longer than a lease lasts")
    ending: str = Field(description="what is being made at its end")
    picture: str = Field(description="where a small copy of a picture is that was painted lately")
    created_at: datetime
    finished_at: datetime | None

    @property
    def left(self) -> int:
        """Jobs that nobody is at."""
        return max(0, self.jobs - self.done - self.failed - self.painting)


class PaintingView(View):
    """A job that is being painted."""

    batch: BatchName
    job: JobId
    names: str
    step: int
    steps: int
    loss: float | None
    worker: str
    silent_s: float = Field(description="since it last reported")
    stuck: bool = Field(description="whether that is longer than a lease lasts")


class JobView(View):
    """A job of a batch. Of one that waits, only its place and names are known."""

    place: int = Field(description="in the manifest, from 0 on")
    job: JobId
    names: str
    state: JobState
    painting: PaintingView | None = None
    kind: str = Field("", description="painted, reused, or the kind of error")
    reason: str = Field("", description="why it failed")
    log: tuple[str, ...] = Field((), description="the last lines of a failure's worker")
    attempts: int = 0
    worker: str = ""
    seconds: float | None = None
    loss: float | None = None
    losses: list[tuple[int, float]] = Field([], description="(step, loss), of a picture that is painted")
    preview: str = Field("", description="where a small copy of the picture is, once it is painted")
    finished_at: datetime | None = None


class JobsView(View):
    """Some of a batch's jobs, in the manifest's order."""

    batch: BatchName
    jobs: list[JobView]
    found: int = Field(description="how many there are of those that were asked for")
    page: int
    pages: int
    complete: bool = Field(description="whether the manifest is read; until then, jobs are missing here")


class FrameView(View):
    """A frame that was kept, and where it is."""

    step: int
    url: str
    loss: float | None


class InputView(View):
    """A picture that a job was painted from, and where a small copy of it is."""

    role: Literal["content", "style"]
    name: str
    url: str


class JobDetail(JobView):
    """All that is known of a job."""

    batch: BatchName
    inputs: list[InputView] = Field(description="what it was painted from, once it is painted")
    options: dict[str, Any]
    frames: list[FrameView] = []
    picture: str = Field("", description="where the finished picture is")
    size: tuple[int, int] | None = None
    facts: dict[str, str] = Field({}, description="device, precision, versions and the like")


class FailureGroup(View):
    """Jobs that failed of the same."""

    id: str = Field(description="the same for the same reason")
    kind: str
    reason: str = Field(description="of one of them")
    jobs: int
    examples: list[tuple[JobId, str]] = Field(description="(job, names) of some")
    log: tuple[str, ...]


class FailuresView(View):
    """Why jobs failed and files were skipped, the most frequent first."""

    groups: list[FailureGroup]
    skipped: list[tuple[str, str]] = Field(description="(file, reason)")
    complete: bool = Field(description="whether all were looked at, or only the first ones; or none yet")


class WorkerView(View):
    """A painting process."""

    name: str
    version: str
    engine: int
    ours: bool = Field(description="whether it has this dashboard's engine, and so serves its queues")
    queues: tuple[str, ...]
    device: str
    weights: str = Field(description="that it has loaded")
    memory_bytes: int | None = Field(description="of its device's memory that it holds")
    model_loads: int
    jobs: int = Field(description="painted since it was started")
    megapixel_steps_s: float | None = Field(description="its speed in its last job")
    silent_s: float = Field(description="since it last spoke")
    silent: bool = Field(description="whether that is long ago: it is gone, or cannot be reached")
    painting: list[PaintingView]


class QueueView(View):
    """A queue: messages, each of one job or of several."""

    name: str
    waiting: int
    unacknowledged: int = Field(description="messages that workers hold")
    oldest_s: float | None = Field(description="since the longest waiting one was sent")
    served: bool


class FarmView(View):
    """Everything at a glance."""

    at: datetime
    problem: str = Field(description="why what follows is not up to date; nothing, if it is")
    batches: list[BatchView]
    unreadable: dict[str, str]
    workers: list[WorkerView]
    paintings: list[PaintingView] = Field(description="what is being painted, and what stopped moving")
    stopped: dict[str, str] = Field(description="workers that stopped of themselves in the last day, and why")
    queues: list[QueueView]
    set_aside: int = Field(description="messages that medley did not send so")


class Decided(View):
    """What came of an action."""

    batch: BatchName
    action: Action
    jobs: int = Field(description="that were enqueued, or are tried again")


class Problem(View):
    """An error."""

    detail: str = Field(description="a sentence: what is wrong, and what to do")
