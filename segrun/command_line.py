"""What every tool has: its parser, and errors that end in one line."""

import argparse
import codecs
import io
import logging
import os
import select
import sys
import warnings
from typing import Callable, List, Optional, TextIO, Tuple, Union

from segrun.commands import Help
from segrun.errors import one_line
from segrun.stopping import Stopped

SIGPIPE = 13        # which ends a program, in shells, whose pipe is closed; its exit code is this beyond 128


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
    the training loop has taken in one line and 128 + its number, as shells have it. A stdout that nobody reads any more
    ends it without a line.

    Args:
        failed: is told that line before.
    """
    if arguments is None:       # a script, which its help is to call as the user did
        flags.prog = f"python {sys.argv[0]}"
    # Said once by the first BatchNorm of every network; nothing follows from it.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    say_plainly()
    prepare_streams()
    args = argparse.Namespace(debug=False)
    try:
        args = flags.parse_args(arguments)
        main(args)
        sys.stdout.flush()      # here, and not at the end of Python, where nobody takes the error
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signum)
    except KeyboardInterrupt:
        failed("interrupted")
        sys.exit("interrupted")
    except Exception as error:
        if reader_has_gone(error):
            failed("nobody reads its lines any more")
            sys.exit(128 + SIGPIPE)
        if args.debug:
            raise
        failed(one_line(error))
        sys.exit(f"error: {one_line(error)}")
    finally:
        settle(sys.stdout)


# --- stdout and stderr ------------------------------------------------------------------------------------------------

def prepare_streams() -> None:
    """Lets whatever is printed be printed: where stdout or stderr is closed, into nothing; a letter that their encoding
    has not, as a name in ASCII, by its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:             # the next file that is opened would be taken for it
            descriptor = os.open(os.devnull, os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):      # a notebook has others
            stream.reconfigure(errors=ANY_LETTER)


ANY_LETTER = "segrun.any_letter"


def any_letter(error: UnicodeError) -> Tuple[Union[str, bytes], int]:
    """Bytes of a file's name that are no letters come out as they are, a letter that is not in the encoding as \\u00e9.
    """
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(ANY_LETTER, any_letter)


def reader_has_gone(error: Optional[BaseException]) -> bool:
    """Whether an error, which PaddleSeg may have wrapped, comes of a stdout or stderr that nobody reads any more, as of
    `| head`. A pipe to another process of this run breaks too, and that is to be told."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__ or error.__context__
    if error is None or not hasattr(select, "poll"):        # Windows has other errors for it
        return False
    streams = select.poll()
    for number in (1, 2):
        streams.register(number, 0)
    return any(event & select.POLLERR for _, event in streams.poll(0))


def settle(stream: Optional[TextIO]) -> None:
    """Writes out what a stream still holds; into nothing where nobody reads it, as Python would complain at its end."""
    try:
        if stream is not None:
            stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno() if stream else 1)
        os.close(nowhere)


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
