"""Parse, import one function by name, call it, print: the program ``medley``."""

import sys
from collections.abc import Sequence

from medley_producer.arguments import make_parser

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 some jobs failed, 2 wrong usage or input,
    3 a service is unreachable, 130 interrupted.
    """
    args = make_parser().parse_args(argv)
    from medley.errors import MedleyError
    from medley_producer import commands

    try:
        code: int = getattr(commands, args.command)(args)
    except MedleyError as error:
        print(f"medley: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("medley: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    return code
