"""Jobs painted fast, alone and together, from their inputs to their commits; with the real network and a folder."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import draw_picture
from medley import keys
from medley.errors import ImageError, MedleyError, NumbersError, PaintingStopped
from medley.records.base import JobId
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.results import Result
from medley_workers.jobs import painting
from medley_workers.jobs.inputs import Inputs, gather
from medley_workers.jobs.keeper import Look
from medley_workers.jobs.painting import paint_together
from medley_workers.jobs.scene import Studio, set_up
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.targets import TargetCache
from medley_workers.numbers.tensors import Tensors
from medley_workers.numbers.transfer import Snapshot, Step
from studio import LAYERS, Faulty, make_batch, make_job, open_studio, paint_job


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path / "storage")


@pytest.fixture
def studio(tmp_path: Path, faulty: Faulty) -> Studio:
    return replace(open_studio(tmp_path / "storage"), storage=faulty)


def options(**changes: Any) -> StyleTransferOptions:
    return StyleTransferOptions.model_validate({"size": 48, "num_steps": 10, "levels": 2, **LAYERS, **changes})


def no_look(*_: object) -> None:
    pass


Make = Callable[..., StyleTransfer]


@pytest.fixture
def a_job(tmp_path: Path, studio: Studio) -> Make:
    """Makes jobs of a content and a style, by their numbers."""

    def make(
        asked: StyleTransferOptions, content: int = 0, style: int = 100, size: tuple[int, int] = (96, 72)
    ) -> StyleTransfer:
        paths = (
            draw_picture(tmp_path / f"content {content}.png", content, size),
            draw_picture(tmp_path / f"style {style}.png", style),
        )
        return make_job(studio, paths[0], {paths[1]: 1.0}, asked)

    return make


def assert_whole(studio: Studio, results: Sequence[Result]) -> None:
    """Storage has what these results name, as they say, and nothing else of any job."""
    named = [file.key for result in results for file in result.files.values()]
    assert sorted(studio.storage.list("jobs/")) == sorted([*named, *(keys.result(result.job_id) for result in results)])
    for result in results:
        for file in result.files.values():
            data = studio.storage.get(file.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


def test_a_result_says_what_was_chosen(studio: Studio, a_job: Make) -> None:
    asked = options(frame_every=5)
    result = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    assert result.chosen is not None
    assert result.chosen.precision == "fast"
    assert result.chosen.reason == ""
    assert result.chosen.arithmetic == studio.fast_network(asked).arithmetic
    assert [level[:2] for level in result.chosen.levels] == [(24, 18), (48, 36)]
    assert sum(level[2] for level in result.chosen.levels) > 0
    assert set(result.chosen.left_out) <= set(asked.style_layers)
    assert result.precision == ("bfloat16" if "bfloat16" in result.chosen.arithmetic else "float32")
    assert result.steps == 10
    assert result.frames == (0, 5, 10)
    assert_whole(studio, [result])


def test_layers_that_were_left_out_are_told(studio: Studio, a_job: Make) -> None:
    asked = options(content_layers=("block1_relu1",), style_layer_weights=(1.0, 1e-9))
    result = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    assert result.chosen is not None
    assert result.chosen.left_out == ("block2_relu1",)


@pytest.mark.parametrize("preserve_color", [None, "luminance"])
def test_the_first_and_the_last_loss_are_plain_and_the_pictures_is_near(
    preserve_color: str | None, studio: Studio, a_job: Make
) -> None:
    asked = options(preserve_color=preserve_color, content_weight=30.0)
    job = a_job(asked)
    canvases = {}

    def look(step: Step, _: float | None) -> None:
        canvases[step.index] = step.canvas.clone()

    scene = set_up(job, asked, studio)
    result = paint_job(job, make_batch(asked), studio, look)
    losses = dict(result.losses)
    assert result.loss == losses[10]
    with torch.no_grad():
        for index in (0, 10):
            plain = scene.objective(scene.colours.view(canvases[index]))
            assert losses[index] == pytest.approx(float(plain.total), rel=1e-5)
    assert result.content_loss == pytest.approx(float(plain.content), rel=1e-5)
    assert result.loss < losses[0] / 2
    assert 0.5 * result.loss <= result.png_loss <= 1.2 * result.loss


def test_a_target_ends_a_painting_sooner(studio: Studio, a_job: Make) -> None:
    asked = options()
    full = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    asked = options(target_loss=3 * full.loss)
    result = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    assert result.steps < 10
    assert result.loss <= 3 * full.loss
    assert result.losses[-1] == (result.steps, result.loss)


def test_what_has_no_fast_form_is_painted_exactly_and_says_why(studio: Studio, a_job: Make) -> None:
    asked = options(optimizer="adam")
    result = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    assert result.chosen is not None
    assert result.chosen.precision == "exact"
    assert "adam" in result.chosen.reason
    assert result.chosen.levels == ()
    assert result.loss < result.losses[0][1]


def test_what_is_asked_to_be_exact_needs_no_reason(studio: Studio, a_job: Make) -> None:
    asked = options(precision="exact")
    result = paint_job(a_job(asked), make_batch(asked), studio, no_look)
    assert result.chosen is not None
    assert (result.chosen.precision, result.chosen.reason) == ("exact", "")


def test_a_content_in_its_own_style_is_painted(studio: Studio, a_job: Make) -> None:
    """Where photos and styles are drawn from one folder, that happens."""
    layers = {"content_layers": ("block3_relu1",), "style_layers": ("block1_relu1", "block3_relu1")}
    asked = options(style_size_pixels=48 * 36, **layers)
    result = paint_job(a_job(asked, 5, 5), make_batch(asked), studio, no_look)
    assert math.isfinite(result.loss)


def together(
    studio: Studio,
    jobs: Sequence[StyleTransfer],
    asked: StyleTransferOptions,
    looks: Mapping[JobId, Look] | None = None,
) -> dict[JobId, Result | Exception]:
    found: dict[JobId, Result | Exception] = {}
    for job, ended in paint_together(jobs, make_batch(asked), studio, lambda job: (looks or {}).get(job.id, no_look)):
        assert job not in found, "it ended twice"
        found[job] = ended if isinstance(ended, Exception) else committed(ended)
    return found


def committed(finish: Callable[[], Result]) -> Result | Exception:
    try:
        return finish()
    except MedleyError as error:
        return error


def results_in(found: Mapping[JobId, Result | Exception]) -> list[Result]:
    return [ended for ended in found.values() if isinstance(ended, Result)]


@pytest.fixture
def five(tmp_path: Path, studio: Studio, a_job: Make) -> list[StyleTransfer]:
    """A broken one, three of one size, and one of another."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no picture")
    style = draw_picture(tmp_path / "style 100.png", 100)
    asked = options(frame_every=5)
    return [
        make_job(studio, broken, {style: 1.0}, asked),
        a_job(asked, 0, 100),
        a_job(asked, 1, 101),
        a_job(asked, 2, 102, (72, 96)),
        a_job(asked, 3, 100),
    ]


def test_jobs_of_one_size_are_painted_together_and_each_ends_by_itself(
    studio: Studio, five: list[StyleTransfer]
) -> None:
    asked = options(frame_every=5)
    _, first, second, _, third = (job.id for job in five)
    found = together(studio, five, asked)
    assert set(found) == {first, second, third}
    with pytest.raises(ImageError):
        paint_job(five[0], make_batch(asked), studio, no_look)
    results = results_in(found)
    assert [result.job_id for result in results] == [first, second, third]
    for result in results:
        assert result.size == (48, 36)
        assert result.frames == (0, 5, 10)
        assert result.png_loss <= 1.2 * result.loss
        assert result.loss < result.losses[0][1] / 2
    assert_whole(studio, results)


def test_together_each_comes_to_what_it_comes_to_alone(
    tmp_path: Path, studio: Studio, five: list[StyleTransfer]
) -> None:
    asked = options(frame_every=5)
    found = {result.job_id: result for result in results_in(together(studio, five, asked))}
    assert len(found) == 3
    elsewhere = replace(studio, storage=open_studio(tmp_path / "elsewhere").storage)
    for key in studio.storage.list("inputs/"):
        elsewhere.storage.put(key, studio.storage.get(key))
    for job in five:
        if job.id in found:
            alone = paint_job(job, make_batch(asked), elsewhere, no_look)
            assert found[job.id].losses[0] == pytest.approx(alone.losses[0], rel=1e-5)
            assert found[job.id].loss == pytest.approx(alone.loss, rel=0.15)
            assert found[job.id].png_loss == pytest.approx(alone.png_loss, rel=0.15)


def test_a_job_whose_numbers_end_fails_alone(studio: Studio, a_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = options(frame_every=5)
    jobs = [a_job(asked, n, 100 + n) for n in range(3)]

    def broken(job: StyleTransfer, *where: Any) -> Inputs:
        inputs = gather(job, *where)
        return replace(inputs, content=torch.full_like(inputs.content, torch.nan)) if job is jobs[1] else inputs

    monkeypatch.setattr(painting, "gather", broken)
    found = together(studio, jobs, asked)
    assert isinstance(found[jobs[1].id], NumbersError)
    results = results_in(found)
    assert {result.job_id for result in results} == {jobs[0].id, jobs[2].id}
    assert_whole(studio, results)


def test_nothing_is_painted_for_jobs_that_have_all_failed(
    studio: Studio, a_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options()
    jobs = [a_job(asked, n, 100 + n) for n in range(2)]
    made: list[int] = []
    steps_of = Descent.steps

    def counted(descent: Descent, snapshot: Snapshot | None = None) -> Iterator[Sequence[Step]]:
        for steps in steps_of(descent, snapshot):
            made.append(steps[0].index)
            yield steps

    def fail(step: Step, _: float | None) -> None:
        if step.index == 2:
            raise NumbersError("It is one flat colour.")

    monkeypatch.setattr(Descent, "steps", counted)
    found = together(studio, jobs, asked, looks={job.id: fail for job in jobs})
    assert [type(ended) for ended in found.values()] == [NumbersError] * 2
    assert made == [0, 1, 2]
    assert_whole(studio, [])


def test_a_job_that_cannot_be_stored_fails_alone(studio: Studio, faulty: Faulty, a_job: Make) -> None:
    asked = options()
    jobs = [a_job(asked, n, 100 + n) for n in range(2)]
    faulty.at = keys.result(jobs[0].id)
    found = together(studio, jobs, asked)
    assert "full" in str(found[jobs[0].id])
    (result,) = results_in(found)
    assert result.job_id == jobs[1].id
    assert_whole(studio, [result])


def test_who_is_told_to_stop_leaves_nothing_that_is_not_whole(studio: Studio, a_job: Make) -> None:
    asked = options(frame_every=2)
    jobs = [a_job(asked, n, 100 + n) for n in range(2)]

    def stop(step: Step, _: float | None) -> None:
        if step.index == 7:
            raise PaintingStopped("The worker drains.", worth_keeping=False)

    with pytest.raises(PaintingStopped):
        together(studio, jobs, asked, looks={jobs[1].id: stop})
    assert_whole(studio, [])


def test_every_job_is_told_of_its_own_steps(studio: Studio, a_job: Make) -> None:
    asked = options()
    jobs = [a_job(asked, n, 100 + n) for n in range(2)]
    seen: dict[JobId, list[int]] = {job.id: [] for job in jobs}

    def noting(job: JobId) -> Look:
        return lambda step, _: seen[job].append(step.index)

    found = together(studio, jobs, asked, looks={job.id: noting(job.id) for job in jobs})
    assert seen == {job.id: list(range(11)) for job in jobs}
    assert len({result.files["pastiche.png"].sha256 for result in results_in(found)}) == 2


def test_a_picture_that_was_seen_is_not_looked_at_again(
    studio: Studio, a_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At both sizes, the second job's style is there; its content is not."""
    made: list[int] = []
    get = TargetCache.get

    def noting(cache: TargetCache, key: Any, make: Callable[[], Tensors]) -> Tensors:
        def noted() -> Tensors:
            made[-1] += 1
            return make()

        return get(cache, key, noted)

    monkeypatch.setattr(TargetCache, "get", noting)
    asked = options()
    for content, style in ((0, 100), (1, 100), (0, 101), (1, 101)):
        made.append(0)
        paint_job(a_job(asked, content, style), make_batch(asked), studio, no_look)
    assert made == [4, 2, 2, 0]


def test_a_kept_target_gives_the_same_picture(studio: Studio, a_job: Make) -> None:
    asked = options(deterministic=True)
    job = a_job(asked)
    losses = []
    for _ in range(2):
        result = paint_job(job, make_batch(asked), studio, no_look)
        losses.append((result.losses[0], result.loss, result.files["pastiche.png"].sha256))
        for key in list(studio.storage.list("jobs/")):
            studio.storage.delete(key)
    assert losses[0] == losses[1]
