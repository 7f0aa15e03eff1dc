"""What a batch ends with: video, sheet and gallery, from a folder and from S3, whole or not at all."""

import io
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import draw_picture
from ended import all_pairs, copy_all, paint_batch, render_walk
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.control import retry
from medley.batches.ending import finish_batch
from medley.batches.stored import each_outcome, read_batch, read_manifest, read_result, write_outcome
from medley.cluster import Cluster
from medley.errors import ObjectMissing, UsageError
from medley.pieces import gallery, sheet
from medley.pieces.gallery import put_gallery
from medley.pieces.source import Source, evenly
from medley.pieces.video import make_medley, make_walk
from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import StyleTransfer
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.results import Result
from medley.records.videos import MedleyOptions, frame_count
from medley.settings import Settings
from medley.storage import Storage
from medley.telling import quiet
from medley_producer.cli import main
from medley_producer.layout import lay_out
from medley_producer.submit import Request, submit
from outcomes import an_outcome, transfers
from servers import S3Server

SHORT = MedleyOptions(seconds_per_style=0.5, fps=20)
"""Ten frames of each picture."""


def source_of(cluster: Cluster, batch: AnyBatch, storage: Storage | None = None) -> Source:
    outcomes = dict(each_outcome(cluster.storage, batch.name))
    failed = sum(status == "failed" for status in outcomes.values())
    return Source(storage or cluster.storage, cluster.settings, batch, outcomes.get, failed)


def frames_of(path: Path) -> list[NDArray[np.float64]]:
    with av.open(path, "r") as video:
        return [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]


def pixels(data: bytes, size: tuple[int, int]) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(size), dtype=float)


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).mean())


def result_of(cluster: Cluster, job: StyleTransfer) -> Result:
    result = read_result(cluster.storage, job.id)
    assert isinstance(result, Result)
    return result


def test_a_medley_begins_with_the_photo_and_ends_with_the_last_picture(
    cluster: Cluster, dataset: Path, tmp_path: Path
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset), fail=1, size=96)
    path = tmp_path / "medley.mp4"
    path.write_bytes(cluster.storage.get(keys.video("b")))
    jobs = transfers(cluster.storage, batch)
    with av.open(path, "r") as video:
        stream = video.streams.video[0]
        count = frame_count(MedleyOptions(), 5)
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 96, 72)
        assert stream.frames == count
        assert stream.average_rate == 30
        assert video.duration == pytest.approx(count / 30 * av.time_base, rel=0.01)
        titles = [chapter["metadata"]["title"] for chapter in video.chapters()]
    styles = {content: [job.styles[0].name for job in jobs[:-1] if job.content.name == content] for content in
              ("photo0.jpg", "photo1.jpg")}  # fmt: skip
    behind_one_another = [*styles[jobs[0].content.name], *styles[({*styles} - {jobs[0].content.name}).pop()]]
    assert titles == [Path(name).stem for name in behind_one_another]
    frames = frames_of(path)
    photo = pixels(cluster.storage.get(keys.input_picture(jobs[0].content.input)), (96, 72))
    last_of_the_other = [job for job in jobs[:-1] if job.content != jobs[0].content][-1]
    last = pixels(cluster.storage.get(result_of(cluster, last_of_the_other).files["pastiche.png"].key), (96, 72))
    assert distance(frames[0], photo) < distance(frames[0], last) / 2
    assert distance(frames[-1], last) < distance(frames[-1], photo) / 2


def test_a_video_is_the_same_from_a_folder_and_from_s3(
    cluster: Cluster, dataset: Path, tmp_path: Path, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, styles=2))
    bucket = storage_on(seaweedfs_server, monkeypatch)
    copy_all(cluster.storage, bucket)
    for n, storage in enumerate((cluster.storage, bucket)):
        summary = make_medley(source_of(cluster, batch, storage), tmp_path / f"{n}.mp4", SHORT)
        assert (summary.scenes, summary.frames, summary.left_out, summary.notes) == (4, 40, (), ())
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "1.mp4").read_bytes()


def test_a_large_batch_gives_a_medley_of_some_evenly_chosen(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=4), fail=2, num_steps=1)
    seen: list[str] = []
    source = replace(source_of(cluster, batch), told=lambda what, done, total: seen.append(f"{what} {done}/{total}"))
    summary = make_medley(source, tmp_path / "a.mp4", SHORT.model_copy(update={"pairs": 5}))
    assert summary.scenes == 5
    assert seen == [f"making the video {n}/50" for n in range(50)]


def test_what_is_gone_or_broken_is_left_out_and_said(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1))
    first, second, third = (result_of(cluster, job) for job in transfers(cluster.storage, batch))
    cluster.storage.delete(first.files["frames/000002.jpg"].key)
    broken = second.files["frames/000000.jpg"]
    cluster.storage.put(broken.key, cluster.storage.get(broken.key)[:-20] + b"\0" * 20)
    cluster.storage.delete(third.files["pastiche.png"].key)
    summary = make_medley(source_of(cluster, batch), tmp_path / "a.mp4", SHORT)
    assert (summary.scenes, summary.frames) == (2, 20)
    said = summary.notes + summary.left_out
    found = [re.findall("lacks 1 of its pictures|finished picture", text) for text in said]
    assert found == [["lacks 1 of its pictures"], ["lacks 1 of its pictures"], ["finished picture"]]
    assert "not as it was stored" in summary.notes[1]


def test_a_batch_of_failures_has_no_video_and_keeps_none_from_ending(
    cluster: Cluster, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1), fail=3)
    assert "ends without medley.mp4: Batch 'b' has no finished picture to make a video of." in caplog.text
    assert not cluster.storage.exists(keys.video("b"))
    page = cluster.storage.get(keys.gallery("b")).decode()
    assert page.count("Not painted") == 3
    old = tmp_path / "old.mp4"
    old.write_bytes(b"a video")
    with pytest.raises(UsageError, match="no finished picture"):
        make_medley(source_of(cluster, batch), old, SHORT)
    assert old.read_bytes() == b"a video"


def test_a_walk_without_a_stretch_goes_on_behind_it(cluster: Cluster, tmp_path: Path) -> None:
    batch = render_walk(cluster, WalkOptions(xres=32, frames=100))
    source = source_of(cluster, batch)
    assert make_walk(source, tmp_path / "whole.mp4") == 100
    jobs = [job.id for job in read_manifest(cluster.storage, batch)]
    lost = replace(source, status_of=lambda job: "failed" if job == jobs[0] else "done")
    assert make_walk(lost, tmp_path / "less.mp4") == 52
    nothing = replace(source, status_of=lambda _: None)
    with pytest.raises(UsageError, match="no picture to make a video of"):
        make_walk(nothing, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()
    cluster.storage.delete(keys.result(jobs[1]))
    with pytest.raises(ObjectMissing, match=r"frames \d+ to \d+\) is done, but its result"):
        make_walk(source, tmp_path / "none.mp4")


def test_the_sheets_of_a_batch_are_made_page_by_page(cluster: Cluster, dataset: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset), fail=1, frame_every=0)
    source = source_of(cluster, batch)
    sizes = [Image.open(io.BytesIO(page)).size for page in sheet.pages(source, columns=2, cells=4)]
    assert len(sizes) == sheet.page_count(source, 4) == 2
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] > 1.8 * sizes[1][1]  # two rows, and one
    (second,) = sheet.pages(source, columns=2, cells=4, only=2)
    assert second == list(sheet.pages(source, columns=2, cells=4))[1]
    whole = np.asarray(Image.open(io.BytesIO(sheet.overview(source, columns=3))), dtype=float)
    stored = np.asarray(Image.open(io.BytesIO(cluster.storage.get(keys.contact_sheet("b")))), dtype=float)
    assert whole.shape == stored.shape
    assert distance(whole, stored) == 0


@pytest.mark.parametrize(("number", "of"), [(1, 1), (5, 3), (3, 5), (50, 100_000), (7, 50)])
def test_evenly_is_even(number: int, of: int) -> None:
    chosen = sorted(evenly(number, of))
    gaps = {after - before for before, after in itertools.pairwise([*chosen, of])}
    assert len(chosen) == min(number, of)
    assert chosen[0] == 0
    assert max(gaps) - min(gaps) <= 1


LINK = re.compile(r'(?:href|src|poster)="([^"#]+)"')


def links(page: bytes) -> set[str]:
    """What a page leads to, frames included."""
    text = page.decode()
    return {link for link in LINK.findall(text) if not link.startswith("data:")}


def test_every_link_of_a_gallery_leads_somewhere_in_storage_and_in_a_folder(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAIRS_A_PAGE", 2)
    data = tmp_path / "data"
    for n, name in enumerate(("#1 50% ?.jpg", "é 港 <b>.jpg")):
        draw_picture(data / "contents" / name, seed=n)
    draw_picture(data / "styles" / 'paint "x" & y.png', seed=9)
    draw_picture(data / "styles" / "plain.png", seed=8)
    sampling = all_pairs(data).model_copy(
        update={"content": (str(data / "contents"),), "styles": (str(data / "styles"),)}
    )
    batch = paint_batch(cluster, sampling)
    out = tmp_path / "out"
    assert lay_out(cluster.storage, cluster.settings, batch, out) == 4
    root = tmp_path / "storage"
    for start in (root / "batches" / "b", out):
        pages, seen = ["index.html", "gallery/page-2.html"], set()
        assert sorted(str(path.relative_to(start)) for path in start.rglob("*.html")) == sorted(pages)
        for page in pages:
            for link in links((start / page).read_bytes()):
                target = (start / page).parent / unquote(link)
                assert target.is_file(), f"{page} leads to {link}"
                assert "?" not in link
                seen.add(target.resolve())
        kinds = {path.suffix for path in seen}
        assert kinds == {".html", ".mp4", ".jpg", ".png"}
        assert sum(path.suffix == ".png" for path in seen) == 4


def test_pages_of_an_earlier_batch_do_not_stay_in_a_folder(
    cluster: Cluster, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAIRS_A_PAGE", 1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "medley.html").write_text("somebody's own")
    for name, styles in (("long", 3), ("short", 1)):
        batch = paint_batch(cluster, all_pairs(dataset, contents=1, styles=styles), name, num_steps=1)
        lay_out(cluster.storage, cluster.settings, batch, out)
        assert len(list((out / "gallery").glob("*.html"))) == styles - 1
    cluster.storage.delete(keys.video("short"))
    lay_out(cluster.storage, cluster.settings, batch, out)
    assert not (out / "medley.mp4").exists()
    assert (out / "medley.html").exists()


def test_what_lies_in_a_folder_before_its_first_batch_ends_stays(
    cluster: Cluster, dataset: Path, tmp_path: Path
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1, styles=1), num_steps=1)
    cluster.storage.delete(keys.finished("b"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("somebody's own")
    assert lay_out(cluster.storage, cluster.settings, batch, out) == 1
    assert (out / "index.html").read_text() == "somebody's own"


def test_a_gallery_says_which_options_were_chosen_and_how_it_came_out(cluster: Cluster, dataset: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1, styles=1), tv_weight=0.5)
    page = cluster.storage.get(keys.gallery("b")).decode()
    result = result_of(cluster, transfers(cluster.storage, batch)[0])
    for text in ("tv weight", "0.5", f"{result.loss:,.0f}", "photo0 × paint0", "<polyline", "medley.mp4"):
        assert text in page


def test_a_walks_gallery_has_its_video_and_some_frames(cluster: Cluster) -> None:
    render_walk(cluster, WalkOptions(xres=32, frames=100))
    page = cluster.storage.get(keys.gallery("w")).decode()
    assert "medley.mp4" in page
    found = re.findall(r'src="(\.\./\.\./jobs/[^"]*/frames/(\d+)\.jpg)"', page)
    assert [int(number) for _, number in found] == [0, 48, 96]
    assert all(cluster.storage.exists(urljoin("batches/w/", link)) for link, _ in found)


def test_what_cannot_be_made_anew_does_not_stay_from_an_earlier_end(
    cluster: Cluster, dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1), fail=1)
    assert cluster.storage.exists(keys.video("b"))
    assert retry(cluster, batch) == 1
    job = transfers(cluster.storage, batch)[-1]
    write_outcome(cluster.storage, an_outcome(batch, job, "image"))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("medley.pieces.video.put_medley", fail)
    assert finish_batch(cluster, "b", lambda: None)
    assert not cluster.storage.exists(keys.video("b"))
    assert "ends without medley.mp4" in caplog.text
    assert "medley.mp4" not in cluster.storage.get(keys.gallery("b")).decode()


def test_of_a_chain_the_first_pictures_are_shown(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=2, chain=True), num_steps=1, frame_every=0)
    summary = make_medley(source_of(cluster, batch), tmp_path / "a.mp4", SHORT.model_copy(update={"pairs": 4}))
    jobs = transfers(cluster.storage, batch)[:4]
    shown = sorted(jobs, key=lambda job: [each.content for each in jobs].index(job.content))
    assert summary.scenes == 4
    with av.open(tmp_path / "a.mp4", "r") as video:
        titles = [chapter["metadata"]["title"] for chapter in video.chapters()]
    assert titles == [Path(job.styles[0].name).stem for job in shown]


def test_of_a_batch_that_goes_on_what_is_finished_is_shown(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=4), num_steps=1)
    for job in transfers(cluster.storage, batch)[3:]:
        cluster.storage.delete(keys.outcome("b", job.id, "done"))
    few = SHORT.model_copy(update={"pairs": 3})
    assert make_medley(source_of(cluster, batch), tmp_path / "a.mp4", few).scenes == 3


@pytest.fixture
def say(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command of medley's over the cluster's storage; returns its exit code and what it said."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setenv("MEDLEY_STORAGE_URL", cluster.settings.storage_url or "")
        code = main([*words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_commands_make_pieces_again(
    cluster: Cluster, dataset: Path, tmp_path: Path, say: Callable[..., tuple[int, str]]
) -> None:
    paint_batch(cluster, all_pairs(dataset), fail=1)
    by_default = cluster.storage.get(keys.video("b"))
    code, said = say("video", "b", "--seconds-per-style", "0.5", "--fps", "20", "--pairs", "2", "--json")
    assert code == 0
    assert json.loads(said)["out"].endswith("batches/b/medley.mp4")
    assert cluster.storage.get(keys.video("b")) != by_default
    out = tmp_path / "own.mp4"
    assert say("video", "b", "--transition", "rewind", "--titles", "--size", "100", "-o", str(out))[0] == 0
    with av.open(out, "r") as video:
        assert (video.streams.video[0].width, video.streams.video[0].frames) == (100, frame_count(MedleyOptions(), 5))
    cluster.storage.delete(keys.contact_sheet("b"))
    assert say("sheet", "b")[0] == 0
    assert cluster.storage.exists(keys.contact_sheet("b"))
    code, said = say("sheet", "b", "--out", str(tmp_path / "sheets"), "--cells", "4")
    assert (code, said.splitlines()[-1]) == (0, "2 sheets")
    assert [path.name for path in sorted((tmp_path / "sheets").iterdir())] == [
        "contact_sheet-1.jpg", "contact_sheet-2.jpg",
    ]  # fmt: skip


def test_the_folder_of_a_run_stands_for_the_batch_that_it_shows(
    tmp_path: Path, redis_url: str, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    storage_url = (out / ".medley" / "storage").as_uri()
    cluster = Cluster.open(Settings(redis_url=redis_url, storage_url=storage_url))
    for name, styles in (("first", 2), ("second", 1)):
        paint_batch(cluster, all_pairs(dataset, contents=1, styles=styles), name, num_steps=1)
    first = read_batch(cluster.storage, "first")
    assert first
    lay_out(cluster.storage, cluster.settings, first, out)
    cluster.storage.put(keys.batch("third"), b"{")  # of another version
    before = (out / "medley.mp4").read_bytes()
    assert main(["video", str(out), "--seconds-per-style", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"] == "first"
    assert (out / "medley.mp4").read_bytes() == cluster.storage.get(keys.video("first")) != before
    (out / "contact_sheet.jpg").unlink()
    assert main(["sheet", str(out)]) == 0
    assert (out / "contact_sheet.jpg").exists()
    assert main(["sheet", str(out), "--out", str(tmp_path / "sheets"), "--cells", "1", "--page", "2"]) == 0
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["contact_sheet-2.jpg"]
    capsys.readouterr()
    assert main(["video", str(tmp_path / "sheets")]) == 2
    assert "is a folder, but not that of a `medley run`" in capsys.readouterr().err


def test_a_batch_that_gets_a_video_later_shows_it(
    cluster: Cluster, dataset: Path, say: Callable[..., tuple[int, str]]
) -> None:
    paint_batch(cluster, all_pairs(dataset, contents=1, styles=1), num_steps=1)
    cluster.storage.delete(keys.video("b"))
    put_gallery(source_of(cluster, read_batch(cluster.storage, "b") or pytest.fail("no batch")))
    assert "medley.mp4" not in cluster.storage.get(keys.gallery("b")).decode()
    assert say("video", "b")[0] == 0
    assert "medley.mp4" in cluster.storage.get(keys.gallery("b")).decode()


def test_of_a_walk_there_is_a_video_as_it_was_asked_for_and_no_sheet(
    cluster: Cluster, say: Callable[..., tuple[int, str]]
) -> None:
    render_walk(cluster, WalkOptions(xres=32, frames=50))
    before = cluster.storage.get(keys.video("w"))
    assert say("video", "w")[0] == 0
    assert cluster.storage.get(keys.video("w")) == before
    assert "'w' is a walk, so --titles bears on nothing" in say("video", "w", "--titles")[1]
    assert "'w' is a walk, and has no contact sheet" in say("sheet", "w")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("video nobody", "There is no batch 'nobody'"),
        ("video b --out .", "must end in .mp4"),
        ("video b --fps 0", "--fps: .*greater than or equal to 1"),
        ("video b --size 9", "--size: .*greater than or equal to 64"),
        ("video b --pairs none", "--pairs: .*integer"),
        ("video b --crf 0", "--crf: .*greater than or equal to 1"),
        ("sheet b --page 1", "--page is one of the pages that --out DIR gets"),
        ("sheet b --page 9 --out here", "There is no page 9: batch 'b' has 1 page."),
        ("sheet b --cells 0", "A sheet has 1 to 500 --cells"),
        ("sheet b --columns -1", "0 --columns .* or more"),
        ("sheet b --out here --cells 0", "A sheet has 1 to 500 --cells"),
        ("video b --out a.webm", "must end in .mp4"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    words: str, said: str, cluster: Cluster, dataset: Path, say: Callable[..., tuple[int, str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    sampling = all_pairs(dataset, contents=1, styles=1)
    submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", quiet)
    code, told = say(*words.split())
    assert code == 2
    assert re.search(said, told), told
    assert len(told.splitlines()) == 1


def test_a_video_that_cannot_be_made_leaves_the_old_one(
    cluster: Cluster, dataset: Path, say: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1, styles=1))
    before = cluster.storage.get(keys.video("b"))
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    code, told = say("video", "b")
    assert (code, cluster.storage.get(keys.video("b"))) == (2, before)
    assert told.startswith("medley: This machine's PyAV has no H.264 encoder")
    assert isinstance(batch, Batch)


def test_frames_that_have_expired_are_done_without_and_pictures_are_not(
    cluster: Cluster, dataset: Path, tmp_path: Path
) -> None:
    batch = paint_batch(cluster, all_pairs(dataset, contents=1, styles=1))
    (job,) = transfers(cluster.storage, batch)
    result = read_result(cluster.storage, job.id)
    assert result
    for file in result.files.values():
        if keys.is_frame(file.key):
            cluster.storage.delete(file.key)
    assert lay_out(cluster.storage, cluster.settings, batch, tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["photo0--paint0.png"]
    assert not list((tmp_path / "out").glob("frames/*/*"))
    cluster.storage.delete(result.files["pastiche.png"].key)
    with pytest.raises(ObjectMissing):
        lay_out(cluster.storage, cluster.settings, batch, tmp_path / "again")
