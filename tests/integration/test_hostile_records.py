"""Whatever lies in storage under a record's key: each reader says so in a sentence, or does without it."""

import gc
import io
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from hostile_records import hostile_records
from medley import keys
from medley.batches.control import pause, read_control, resume, retry
from medley.batches.ending import finish_batch
from medley.batches.reconciling import reconcile_all
from medley.batches.removing import sweep
from medley.batches.stored import read_batch, read_manifest, read_outcome, read_result, write_outcome
from medley.cluster import Cluster
from medley.errors import MedleyError, UsageError
from medley.records.base import Digest, Record
from medley.records.batches import Batch, Control, Sampling
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.results import Finished, Result, Seconds, StoredFile
from medley_producer.cli import main
from medley_producer.submit import Request, submit
from medley_workers.jobs.desk import Desk
from outcomes import an_outcome, transfers
from painters import deliver

# Who gives up half-way through a manifest leaves its temporary folder to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

SEED = 11
SLOWEST_S = 10.0
"""For one look at one record, on a slow machine that does something else as well."""


class Ended:
    """A batch of three jobs that has ended: one was painted, one was painted for another batch, one failed."""

    def __init__(self, cluster: Cluster, dataset: Path) -> None:
        self.cluster, self.storage = cluster, cluster.storage
        sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=3)
        request = Request("b", sampling, StyleTransferOptions())
        self.batch = submit(cluster, request, "bulk", lambda *_: None).batch
        self.jobs = transfers(self.storage, self.batch)
        for job, kind in zip(self.jobs, ("painted", "reused", "image"), strict=True):
            if kind != "image":
                self.storage.put(keys.result(job.id), a_result(cluster, self.batch, job).json_bytes())
            write_outcome(self.storage, an_outcome(self.batch, job, kind))
        decision = Control(state="running", at=datetime.now(UTC))
        self.storage.put(keys.control("b"), decision.json_bytes())
        assert finish_batch(cluster, "b", lambda: None)
        cluster.ledger._redis.set("medley:since", "0")  # a reconciler leaves a young Redis alone

    @property
    def records(self) -> dict[str, str]:
        """The keys of its records, by what they are."""
        painted, _, failed = (job.id for job in self.jobs)
        return {
            "batch": keys.batch("b"),
            "manifest": keys.manifest("b", self.batch.manifest),
            "control": keys.control("b"),
            "result": keys.result(painted),
            "done outcome": keys.outcome("b", painted, "done"),
            "failed outcome": keys.outcome("b", failed, "failed"),
            "finished": keys.finished("b"),
            "failures": keys.failures("b"),
        }


def a_result(cluster: Cluster, batch: Batch, job: StyleTransfer) -> Result:
    """A commit with its files in storage."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, "PNG")
    names = {"pastiche.png": keys.pastiche(job.id, "t"), "frames/000000.jpg": keys.frame(job.id, "t", 0)}
    for key in names.values():
        cluster.storage.put(key, file.getvalue())
    files = {
        name: StoredFile(key=key, sha256=Digest("0" * 64), bytes=len(file.getvalue())) for name, key in names.items()
    }
    return Result(
        job_id=job.id, batch=batch.name, content=job.content, styles=job.styles, options=batch.options,
        engine=batch.engine, weights=batch.weights, size=(40, 30), steps=1, losses=((0, 2.0), (1, 1.0)), loss=1.0,
        content_loss=0.5, png_loss=1.5, frames=(0,), files=files, device="cpu", precision="float32", versions={},
        seconds=Seconds(load=0, paint=1, store=0, total=1), attempt="t", worker="w", finished_at=datetime.now(UTC),
    )  # fmt: skip


@pytest.fixture
def ended(cluster: Cluster, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ended]:
    monkeypatch.setenv("MEDLEY_REDIS_URL", cluster.settings.redis)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", cluster.settings.storage)
    yield Ended(cluster, dataset)
    gc.collect()


Look = Callable[[], object]


def looks(ended: Ended, out: Path) -> dict[str, Look]:
    """Everything that reads records; a command prints its sentence, the others raise it."""
    cluster, storage, batch = ended.cluster, ended.storage, ended.batch
    painted, _, failed = ended.jobs

    def manifest() -> object:
        read = read_batch(storage, "b")
        return read and Counter(job.id for job in read_manifest(storage, read))

    def paint(*_: object) -> Result:
        return a_result(cluster, batch, painted)

    def deliver_again() -> None:
        storage.delete(keys.outcome("b", painted.id, "done"))
        deliver(Desk(cluster, "w#0", paint), "b", painted)

    def finish_again() -> None:
        storage.delete(keys.finished("b"))
        finish_batch(cluster, "b", lambda: None)

    return {
        "read_batch": lambda: read_batch(storage, "b"),
        "read_manifest": manifest,
        "read_control": lambda: read_control(storage, "b"),
        "read_result": lambda: read_result(storage, painted.id),
        "read_outcome, done": lambda: read_outcome(storage, "b", painted.id, "done"),
        "read_outcome, failed": lambda: read_outcome(storage, "b", failed.id, "failed"),
        "status": lambda: main(["status"]),
        "status b": lambda: main(["status", "b"]),
        "status b --json": lambda: main(["status", "b", "--json"]),
        "status b --failed": lambda: main(["status", "b", "--failed"]),
        "fetch": lambda: main(["fetch", "b", str(out)]),
        "finish": finish_again,
        "pause": lambda: pause(cluster, batch),
        "resume": lambda: resume(cluster, batch),
        "retry": lambda: retry(cluster, batch, ["image"]),
        "rm --unused --dry-run": lambda: sweep(cluster, dry_run=True),
        "reconcile": lambda: reconcile_all(cluster),
        "deliver": deliver_again,
    }


def broken_looks(ended: Ended, out: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """What goes wrong beside a sentence of medley's."""
    for name, look in looks(ended, out).items():
        started = time.monotonic()
        sentence = ""
        try:
            look()
        except MedleyError as error:
            sentence = str(error)
        except Exception as error:
            yield f"{name}: {type(error).__name__}: {str(error)[:200]}"
        sentence = sentence or capsys.readouterr().err
        if sentence and not sentence.strip().endswith("."):
            yield f"{name}: no sentence: {sentence[-200:]!r}"
        if not sentence.strip().isprintable():
            yield f"{name}: no clean sentence: {sentence[:200]!r}"
        if (took_s := time.monotonic() - started) > SLOWEST_S:
            yield f"{name}: took {took_s:.1f} s"


RECORDS = ("batch", "manifest", "control", "result", "done outcome", "failed outcome", "finished", "failures")


@pytest.mark.parametrize("number", [6, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.parametrize("record", RECORDS)
def test_a_hostile_record_costs_a_sentence(
    record: str, number: int, ended: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"seed {SEED}")
    before = {key: ended.storage.get(key) for key in ended.storage.list("batches/")}
    before |= {key: ended.storage.get(key) for key in ended.storage.list("jobs/") if key.endswith(".json")}
    broken: dict[str, bytes] = {}
    key = ended.records[record]
    for text in islice(hostile_records(before[key], f"{SEED} {record}"), number):
        ended.storage.put(key, text)
        for problem in broken_looks(ended, tmp_path / "out", capsys):
            broken.setdefault(problem, text[:600])
        for changed in [*ended.storage.list("batches/")]:
            if changed not in before:
                ended.storage.delete(changed)
        for other, data in before.items():
            ended.storage.put(other, data)
        ended.storage.delete(keys.open_batch("b"))
    assert sorted({path.parent for path in tmp_path.rglob("*.sh")}) == []
    assert not broken, "\n".join(f"{problem}\n    {text!r}" for problem, text in broken.items())


# What chance seldom finds


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


ODD_KEYS = ["", ".", "..", "../../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\x00", "jobs/", "\ud800", "x" * 5_000]
ODD_NAMES = ["", ".", "..", "../../x.sh", "/x.sh", "frames", "frames/..", "frames/../../x.sh", "a.\x00", "a.\x1b"]


@pytest.mark.parametrize(
    "odd", [*({"key": key} for key in ODD_KEYS), *({"name": name} for name in ODD_NAMES)], ids=repr
)
def test_nothing_that_a_result_names_leads_elsewhere(
    odd: dict[str, str], ended: Ended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ended.records["result"]
    result = json.loads(ended.storage.get(key))
    file = result["files"].pop("pastiche.png")
    result["files"][odd.get("name", "pastiche.png")] = file | {"key": odd.get("key", file["key"])}
    ended.storage.put(key, json.dumps(result).encode())
    before = tree(tmp_path)
    assert not list(broken_looks(ended, tmp_path / "out", capsys))
    assert {path.parts[len(tmp_path.parts)] for path in tree(tmp_path) - before} <= {"out", "storage"}


def test_a_record_under_anothers_key_is_refused(ended: Ended) -> None:
    storage, (painted, other, failed) = ended.storage, ended.jobs
    storage.put(keys.batch("c"), storage.get(keys.batch("b")))
    with pytest.raises(UsageError, match="'b'"):
        read_batch(storage, "c")
    storage.put(keys.result(painted.id), storage.get(keys.result(other.id)))
    with pytest.raises(UsageError, match=other.id):
        read_result(storage, painted.id)
    storage.put(keys.outcome("b", failed.id, "failed"), storage.get(keys.outcome("b", painted.id, "done")))
    with pytest.raises(UsageError, match=painted.id):
        read_outcome(storage, "b", failed.id, "failed")


def test_a_job_whose_result_cannot_be_read_has_failed_for_that(ended: Ended) -> None:
    storage, job = ended.storage, ended.jobs[0]
    storage.delete(keys.outcome("b", job.id, "done"))
    storage.put(keys.result(job.id), b"{}")
    deliver(Desk(ended.cluster, "w#0", lambda *_: a_result(ended.cluster, ended.batch, job)), "b", job)
    outcome = read_outcome(storage, "b", job.id, "failed")
    assert keys.result(job.id) in outcome.reason


MISTAKES = 300_000
"""In a megabyte. Each takes pydantic 3 KB and 30 us or more where all are gathered."""


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Result, b'{"losses": [' + b",".join([b"[]"] * MISTAKES) + b"]}"),
        (Result, b'{"files": {' + b",".join(b'"%d":0' % n for n in range(MISTAKES)) + b"}}"),
        (Batch, b'{"skipped": [' + b",".join([b"[]"] * MISTAKES) + b"]}"),
        (Finished, b"{" + b",".join(b'"%d":0' % n for n in range(MISTAKES)) + b"}"),
        (StyleTransfer, b'{"styles": [' + b",".join([b"0"] * MISTAKES) + b"]}"),
    ],
    ids=["losses", "files", "skipped", "other fields", "styles"],
)
def test_a_record_with_very_many_mistakes_costs_little(record: type[Record], text: bytes) -> None:
    most_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 400_000_000
    started = time.process_time()
    with pytest.raises(UsageError):
        record.from_json(text)
    assert time.process_time() - started < 2.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < most_bytes


def test_odd_names_among_the_open_batches_hold_up_no_other(
    ended: Ended, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = ended.storage
    for name in ("!", "-rf", "a b", "a\nb\x1b[2J", "a/b/c", "a" * 250, "a'$(x)", "\U0001f3a8", "aa", "bb", "c"):
        storage.put(keys.OPEN + name, b"\xff" * 1_000)
    storage.put(keys.batch("aa"), b"[" * 100_000)
    storage.put(keys.batch("c"), storage.get(keys.batch("b")))
    loop = tmp_path / "storage" / keys.batch("bb")
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    # What the real one lacks goes out all the same, whatever stands before it in a listing.
    storage.put(keys.OPEN + "zz", b"")
    storage.put(keys.batch("zz"), ended.batch.model_copy(update={"name": "zz"}).json_bytes())
    storage.put(keys.manifest("zz", ended.batch.manifest), storage.get(keys.manifest("b", ended.batch.manifest)))
    reconcile_all(ended.cluster)
    assert ended.cluster.ledger.counts("zz").enqueued == ended.batch.jobs
    assert all(line.isprintable() for line in caplog.messages)


@pytest.mark.parametrize(
    "failure",
    [
        {"attempts": "7"}, {"attempts": None}, {"attempts": [1]}, {"log": 7}, {"log": "text"}, {"log": {"a": 1}},
        {"content": 7, "styles": 7}, {"content": "c", "styles": {"a": 1}}, {"content": None, "styles": None},
        {"skipped": 7, "reason": 7}, {"reason": None}, {"worker": []}, {"kind": {}}, {"names": []}, {"job": 7}, {},
        {"reason": "a\x1b[2J", "kind": "a\nb", "worker": "\x07", "log": ["\x1b"], "content": "\r", "styles": ["\r"]},
    ],
    ids=repr,
)  # fmt: skip
def test_a_changed_list_of_failures_can_be_shown(
    failure: dict[str, object], ended: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    ended.storage.put(keys.failures("b"), json.dumps(failure).encode())
    for command in (["status", "b", "--failed"], ["status", "b"]):
        main(command)
        told = capsys.readouterr()
        assert all(line.isprintable() for line in (told.out + told.err).splitlines())
