"""The files of deploy/, by the programs that read them, and against what medley has."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from medley.records.jobs import ENGINE
from medley.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
README = DEPLOY / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
GRAFANA = DEPLOY / "grafana" / "provisioning" / "dashboards" / "medley.json"
RULES = DEPLOY / "prometheus" / "rules.yml"


def run(program: str, *arguments: object, package: str) -> str:
    """Run a program; without it tests are skipped, or fail in CI."""
    found = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
    if found is None:
        absent = f"{program} is not installed: {package}."
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def promtool(*arguments: object) -> str:
    return run("promtool", *arguments, package="`apt-get install prometheus`")


def test_prometheus_reads_its_settings_and_the_rules_and_their_tests_pass() -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert "SUCCESS" in promtool("test", "rules", DEPLOY / "prometheus" / "rules_test.yml")


def test_prometheus_reads_the_settings_that_the_readme_has_for_it(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    (settings,) = re.findall(r"^```yaml\n(rule_files:.+?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    settings, pods = re.subn(
        r"kubernetes_sd_configs: .+", "static_configs: []", settings
    )  # Debian's knows no Kubernetes
    assert pods == 1
    (tmp_path / "prometheus.yml").write_text(settings)
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_workers_are_scaled_by_the_queues_of_their_engine() -> None:
    assert set(re.findall(r"finish\)\[\.\](\d+)", OPERATIONS.read_text())) == {str(ENGINE)}


def test_every_alert_has_a_test_that_sees_it_fire() -> None:
    alerts = {
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    fire = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fire == alerts


def test_every_alert_is_in_the_runbook() -> None:
    rules, runbook = RULES.read_text(), OPERATIONS.read_text()
    for alert in re.findall(r"alert: (\w+)", rules):
        assert f"| `{alert}` |" in runbook
    for heading in re.findall(r'docs/operations.md, \\?"(.+?)\\?"', rules):
        assert f"### {heading.rstrip('.')}\n" in runbook


def test_the_queries_of_every_panel_are_queries(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(queries())]
    assert len(rules) > 10
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", path)


def queries() -> Iterator[str]:
    """Of all panels, with Grafana's variables filled in."""
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")


def test_compose_reads_its_file() -> None:
    run(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml", package="`make install`"
    )


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_reads_its_manifests(path: Path) -> None:
    if path.name != "kustomization.yaml":  # kustomize's own
        run("kubernetes-validate", "--strict", path, package="`make install`")


def test_kustomize_names_every_manifest() -> None:
    told = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert {*told["resources"], "kustomization.yaml"} == {path.name for path in (DEPLOY / "kubernetes").iterdir()}


@pytest.mark.parametrize("path", sorted((DEPLOY / "docker").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_dockerfiles_are_as_they_should_be(path: Path) -> None:
    run("hadolint", path, package="`make install`")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE)
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


def test_systemd_reads_its_units(tmp_path: Path) -> None:
    # It looks for the program, which need not be installed here.
    for path in (DEPLOY / "systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/medley/bin/medley", "/bin/true"))
    run("systemd-analyze", "verify", *sorted(tmp_path.iterdir()), package="`apt-get install systemd`")


def test_every_unit_may_write_to_a_shared_folder_and_waits_for_it() -> None:
    for path in (DEPLOY / "systemd").glob("*.service"):
        text = path.read_text()
        assert "ProtectSystem=strict" in text
        assert "ReadWritePaths=-/srv/medley\n" in text
        assert "RequiresMountsFor=/srv/medley\n" in text


def test_shells_systemd_and_kubectl_read_the_example_s_values_alike() -> None:
    for line in (DEPLOY / "medley.env.example").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Z0-9_]+=[A-Za-z0-9%+,./:=@_-]*|", line)


@pytest.mark.parametrize(
    "path",
    [DEPLOY / "medley.env.example", DEPLOY / "compose.yaml", *(DEPLOY / "docker").iterdir()],
    ids=lambda path: path.name,
)
def test_settings_that_are_set_are_there(path: Path) -> None:
    told = set(re.findall(r"MEDLEY_[A-Z0-9_]+(?==|:)", path.read_text()))
    known = {f"MEDLEY_{name.upper()}" for name in Settings.model_fields}
    assert told - known <= {"NIGHTLY_CONTENT", "NIGHTLY_STYLES", "NIGHTLY_PAIRS"}


def test_stopping_waits_longer_than_draining_takes() -> None:
    grace_s = Settings.model_fields["grace_s"].default
    worker = yaml.safe_load((DEPLOY / "kubernetes" / "worker.yaml").read_text())
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    unit = (DEPLOY / "systemd" / "medley-worker.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found
    for waited_s in (
        worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        int(compose["services"]["worker"]["stop_grace_period"].removesuffix("s")),
        int(found[1]),
    ):
        assert waited_s >= 2 * grace_s
