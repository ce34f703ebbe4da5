"""What segrun says of its work goes where PaddleSeg's own lines go."""

import logging

from paddleseg.utils import logger


class ToPaddleSeg(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say = logger.info if record.levelno < logging.WARNING else logger.warning
        say(record.getMessage())


def join() -> None:
    """From now on segrun's log is PaddleSeg's."""
    log = logging.getLogger("segrun")
    log.handlers[:] = [ToPaddleSeg()]
    log.setLevel(logging.INFO)
    log.propagate = False
