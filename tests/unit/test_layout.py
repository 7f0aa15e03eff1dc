"""A batch's pictures become files that a person finds, each under a name of its own that every file system takes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import write_manifest, write_outcome
from medley.records.batches import Batch, Sampling
from medley.records.jobs import ENGINE, JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.results import Outcome, Result, Seconds, StoredFile
from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley_producer.layout import lay_out, title, titles
from servers import S3Server

NOW = datetime(2026, 1, 31, tzinfo=UTC)
OPTIONS = StyleTransferOptions(num_steps=4, frame_every=4)


def make_job(content: str, *styles: str) -> StyleTransfer:
    """A job whose pictures differ wherever their names do."""
    digests = [sha256(name.encode()).hexdigest() for name in (content, *styles)]
    picture = Picture(sha256=digests[0], ext="jpg", name=content)
    painted = tuple(Style(sha256=d, ext="jpg", name=name) for d, name in zip(digests[1:], styles, strict=True))
    return StyleTransfer(id=JobIds(OPTIONS, DEFAULT_WEIGHTS).of(picture, painted), content=picture, styles=painted)


def store_batch(storage: Storage, folder: Path, jobs: Sequence[StyleTransfer]) -> Batch:
    """The manifest of these jobs in storage."""
    manifest, pairs, distinct = write_manifest(folder / "manifest", jobs)
    storage.put_file(keys.manifest("night", manifest), folder / "manifest")
    sampling = Sampling(content=("c",), styles=("s",))
    return Batch(
        name="night", sampling=sampling, options=OPTIONS, weights=DEFAULT_WEIGHTS, engine=ENGINE, manifest=manifest,
        pairs=pairs, jobs=distinct, created_at=NOW,
    )  # fmt: skip


def store_result(storage: Storage, job: StyleTransfer) -> None:
    """What a worker leaves of a job: its files, the result that names them, and the outcome."""
    contents = {
        "pastiche.png": (keys.pastiche(job.id, "token"), f"picture {job.id}".encode()),
        "frames/000004.jpg": (keys.frame(job.id, "token", 4), f"frame {job.id}".encode()),
    }
    for key, data in contents.values():
        storage.put(key, data)
    result = Result(
        job_id=job.id, batch="night", content=job.content, styles=job.styles, options=OPTIONS, engine=ENGINE,
        weights=DEFAULT_WEIGHTS, size=(8, 8), steps=4, losses=((0, 2.0), (4, 1.0)), loss=1.0, content_loss=0.5,
        png_loss=1.0, frames=(4,), seconds=Seconds(load=0, paint=1, store=0, total=1), device="cpu",
        files={name: StoredFile(key=key, sha256=sha256(data).hexdigest(), bytes=len(data))
               for name, (key, data) in contents.items()},
        precision="float32", versions={}, attempt="token", worker="w", finished_at=NOW,
    )  # fmt: skip
    storage.put(keys.result(job.id), result.json_bytes())
    write_outcome(storage, Outcome(job=job.id, batch="night", status="done", kind="painted", attempts=1, worker="w",
                                   seconds=1, loss=1.0, finished_at=NOW))  # fmt: skip


def files(folder: Path) -> set[str]:
    """What people see in it."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(".medley/")}


@pytest.fixture
def folder_storage(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "storage").as_uri(), Settings.load())


def test_a_job_is_called_after_its_pictures() -> None:
    assert title(make_job("2026/harbour.at six.jpg", "test/1.jpg")) == "harbour.at six--1"
    assert title(make_job("é 港.jpg", "Cézanne.png", "雪舟.jpg")) == "é 港--Cézanne+雪舟"


@pytest.mark.parametrize("letter", ["a", "é", "港", "😀", "e\u0301"])
def test_a_title_is_cut_between_letters_to_what_file_systems_take(letter: str, tmp_path: Path) -> None:
    name = title(make_job(f"{letter * 300}.jpg", "s.jpg"))
    assert 190 <= len(name.encode()) <= 200
    assert name.strip(letter) in ("", "e")
    (tmp_path / f".{name}-1234.png.4194304").touch()


def test_titles_that_would_be_one_file_are_numbered(folder_storage: Storage, tmp_path: Path) -> None:
    pairs = [("a/x.jpg", "1.jpg"), ("b/X.png", "1.jpg"), ("c/x.jpg", "1.jpg"), ("x.jpg", "1-2.jpg"), ("ß.jpg", "1.jpg"),
             ("SS.jpg", "1.jpg")]  # fmt: skip
    jobs = [make_job(*pair) for pair in pairs]
    batch = store_batch(folder_storage, tmp_path, [*jobs, jobs[0]])
    found = dict(titles(folder_storage, batch))
    assert list(found) == [job.id for job in jobs]
    assert list(found.values()) == ["x--1", "X--1-2", "x--1-3", "x--1-2-2", "ß--1", "SS--1-2"]


def test_pictures_of_a_folder_are_linked_however_often(folder_storage: Storage, tmp_path: Path) -> None:
    done, waiting = make_job("é 港.jpg", "n" * 250 + ".jpg"), make_job("later.jpg", "1.jpg")
    batch = store_batch(folder_storage, tmp_path, [done, waiting])
    store_result(folder_storage, done)
    out, name = tmp_path / "out", title(done)
    for _ in range(2):
        assert lay_out(folder_storage, Settings(), batch, out) == 1
        assert files(out) == {f"{name}.png", f"frames/{name}/000004.jpg"}
    stored = tmp_path / "storage" / keys.pastiche(done.id, "token")
    assert (out / f"{name}.png").samefile(stored)
    store_result(folder_storage, waiting)
    for key in (keys.contact_sheet("night"), keys.failures("night"), keys.finished("night")):
        folder_storage.put(key, b"")
    assert lay_out(folder_storage, Settings(), batch, out) == 2
    assert files(out) >= {"later--1.png", "contact_sheet.jpg"}
    assert not (out / "failures.jsonl").exists()


def test_what_failed_is_listed_where_something_did(folder_storage: Storage, tmp_path: Path) -> None:
    job = make_job("a.jpg", "b.jpg")
    batch = store_batch(folder_storage, tmp_path, [job])
    for key in (keys.contact_sheet("night"), keys.failures("night"), keys.finished("night")):
        folder_storage.put(key, b"")
    folder_storage.put(keys.outcome("night", job.id, "failed"), b"")
    lay_out(folder_storage, Settings(), batch, tmp_path / "out")
    assert files(tmp_path / "out") == {"contact_sheet.jpg", "failures.jsonl", "index.html"}


def test_what_lies_in_the_way_is_replaced_and_the_storage_stays_as_it_is(
    folder_storage: Storage, tmp_path: Path
) -> None:
    job = make_job("a.jpg", "b.jpg")
    batch = store_batch(folder_storage, tmp_path, [job])
    store_result(folder_storage, job)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a--b.png").write_bytes(b"of yesterday")
    lay_out(folder_storage, Settings(), batch, tmp_path / "out")
    assert (tmp_path / "out" / "a--b.png").read_bytes() == f"picture {job.id}".encode()


def test_pictures_are_fetched_from_a_server(
    seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = storage_on(seaweedfs_server, monkeypatch)
    jobs = [make_job("é 港.jpg", f"{n}.jpg") for n in range(3)]
    batch = store_batch(storage, tmp_path, jobs)
    for job in jobs[:2]:
        store_result(storage, job)
    for _ in range(2):
        assert lay_out(storage, Settings(), batch, tmp_path / "out") == 2
    assert files(tmp_path / "out") == {
        name for n in range(2) for name in (f"é 港--{n}.png", f"frames/é 港--{n}/000004.jpg")
    }
    assert (tmp_path / "out" / "é 港--0.png").read_bytes() == f"picture {jobs[0].id}".encode()
