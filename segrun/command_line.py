"""What every tool has: its parser, and errors that end in one line."""

import argparse
import logging
import sys
import warnings
from typing import Callable, List, Optional

from segrun.commands import Help
from segrun.errors import one_line
from segrun.stopping import Stopped


def bare_parser(description: str, example: str = "") -> argparse.ArgumentParser:
    """No flags but --help and --debug. `example`: arguments that a call may have, in lines of a screen's width."""
    lines = " \\\n      ".join(example.splitlines())
    flags = argparse.ArgumentParser(description=description, formatter_class=Help,
                                    epilog=f"example:\n  %(prog)s {lines}" if example else None)
    flags.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return flags


def positive(text: str) -> int:
    """A whole number above 0, of a flag."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text}, must be a whole number, at least 1")
    return int(text)


def run_main(main: Callable[[argparse.Namespace], None], flags: argparse.ArgumentParser,
             arguments: Optional[List[str]] = None, failed: Callable[[str], None] = lambda line: None) -> None:
    """Parses the command line and calls main(args); an error ends in one line on stderr and exit code 1, a signal that
    the training loop has taken in one line and 128 + its number, as shells have it.

    Args:
        failed: is told that line before.
    """
    if arguments is None:       # a script, which its help is to call as the user did
        flags.prog = f"python {sys.argv[0]}"
    args = flags.parse_args(arguments)
    # Said once by the first BatchNorm of every network; nothing follows from it.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    say_plainly()
    try:
        main(args)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signum)
    except KeyboardInterrupt:
        failed("interrupted")
        sys.exit("interrupted")
    except Exception as error:
        if args.debug:
            raise
        failed(one_line(error))
        sys.exit(f"error: {one_line(error)}")


class PlainHandler(logging.Handler):
    """Lines on stdout; a warning says that it is one."""

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        print(line if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {line}", flush=True)


def say_plainly() -> None:
    """Lets this package's log be plain lines, unless somebody has said how it should be."""
    log = logging.getLogger("segrun")
    if not log.handlers:
        log.addHandler(PlainHandler())
        log.setLevel(logging.INFO)
        log.propagate = False
