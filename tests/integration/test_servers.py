"""The servers that tests start end with them."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import servers


def test_a_server_dies_with_the_tests(tmp_path: Path) -> None:
    program = (
        "import servers, sys, pathlib\n"
        "with servers.moto(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.endpoint_url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    folder = str(Path(servers.__file__).parent)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=folder) as tests:
        assert tests.stdout is not None
        port = int(tests.stdout.readline().decode().rpartition(":")[2])
        tests.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while _listens(port):
        assert time.monotonic() < deadline, "the server outlived its tests"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
