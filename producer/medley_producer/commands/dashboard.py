"""``medley dashboard``: what it needs and may do, before it serves."""

import importlib.util
import secrets
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from medley.cluster import Cluster
from medley.errors import UsageError
from medley.logs import is_json
from medley.settings import Settings
from medley_producer.extras import INSTALL_DASHBOARD
from medley_producer.local import watched_farm


def dashboard(args: Namespace) -> int:
    """Serve the ops page, until told to stop."""
    if not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise UsageError(f"The dashboard needs more than this machine has installed: {INSTALL_DASHBOARD}.")
    from medley_producer.dashboard.serving import serve

    if not 0 < args.port < 65_536:
        raise UsageError(f"There is no port {args.port}: choose one from 1 to 65535.")
    settings = Settings.load(**({"dashboard_token": args.token} if args.token else {}))
    token = _token(args, settings)
    with watched_farm(settings, Path(args.folder)) if args.folder else nullcontext(Cluster.open(settings)) as cluster:
        cluster.check()
        if not is_json(settings):
            host = f"[{args.host}]" if ":" in args.host else args.host
            print(f"The dashboard is to be at http://{host}:{args.port}/", file=sys.stderr)
        serve(cluster, args.host, args.port, token)
    return 0


def _token(args: Namespace, settings: Settings) -> str | None:
    """Whoever has it may decide about batches; None where nobody may."""
    if not args.allow_control:
        if args.token:
            raise UsageError("--token lets nobody decide anything without --allow-control.")
        return None
    if args.folder:
        raise UsageError("Decide about a `medley run` where it runs: Ctrl-C stops it, and the same command goes on.")
    if settings.dashboard_token:
        return settings.dashboard_token
    if is_json(settings):  # a secret that nobody chose would stand in a log
        raise UsageError("--allow-control needs a token: set MEDLEY_DASHBOARD_TOKEN.")
    token = secrets.token_urlsafe(24)
    print(f"The token of this dashboard, until it ends: {token}", file=sys.stderr)
    return token
