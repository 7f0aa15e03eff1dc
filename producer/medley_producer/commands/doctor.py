"""``medley doctor``: its findings, printed as they come."""

from argparse import Namespace
from dataclasses import asdict

from rich.console import Console

from medley_producer.commands.printing import print_result
from medley_producer.doctor import examine, print_finding


def doctor(args: Namespace) -> int:
    """Say what is wrong with this set-up, and how to mend it."""
    findings, console = [], Console()
    for finding in examine():
        findings.append(finding)
        if not args.json:
            print_finding(console, finding)
    ok = all(finding.state != "red" for finding in findings)
    if args.json:
        print_result(args, {"ok": ok, "checks": [asdict(finding) for finding in findings]})
    return 0 if ok else 1
