"""Parse, import one function by name, call it, print: the program ``medley``."""

import io
import os
import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 some jobs failed, 2 wrong usage or input,
    3 a service is unreachable, 130 interrupted.

    Raises:
        SystemExit: argparse has answered: 0 after help, 2 after a mistake.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files have letters that a terminal may not have
    try:
        try:
            return _command(argv)
        finally:
            sys.stdout.flush()  # at exit it would be too late to catch what it raises
    except KeyboardInterrupt as error:
        print(f"medley: Interrupted. {error}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(argv: Sequence[str] | None) -> int:
    # Imported here, so that Ctrl-C while they load ends as it does later.
    from medley_producer.options.arguments import make_parser

    args = make_parser().parse_args(argv)
    from medley.errors import MedleyError, UsageError
    from medley_producer.commands import function_of

    try:
        return function_of(args.command)(args)
    except MedleyError as error:
        print(f"medley: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder to write into that is a file, a full disk
        place = error.filename or "This machine"
        print(f"medley: {place} cannot be used ({error.strerror or error}); mend that, and repeat.", file=sys.stderr)
        return UsageError.exit_code
