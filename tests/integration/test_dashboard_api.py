"""The dashboard's API, asked for all that its own description allows and for what it does not, by schemathesis."""

import subprocess
import sys
from pathlib import Path

from conftest import wait_until
from dashboards import TOKEN, dashboard
from ended import all_pairs, paint_batch
from medley.cluster import Cluster

SEED = 1


def test_the_api_is_as_it_describes_itself(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    paint_batch(cluster, all_pairs(dataset, contents=1, styles=2), fail=1)
    with dashboard(cluster, TOKEN) as shown:
        wait_until(lambda: shown.api("batches/b/jobs")["complete"], 20, "the manifest")
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{shown.url}/openapi.json",
            "--header", f"Authorization: Bearer {TOKEN}", "--seed", str(SEED), "--max-examples", "10",
            "--request-timeout", "20", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, f"seed {SEED}\n{done.stdout}\n{done.stderr}"
