"""The sound of a video, copied as it is into the one that is made of its pictures. FFmpeg does it, as a program."""

import logging
import re
import shutil
import subprocess
from typing import List, Optional

from segrun.writing import write

log = logging.getLogger(__name__)


def find_ffmpeg() -> Optional[str]:
    """The program of that name, else that of the package imageio-ffmpeg, else None."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):     # RuntimeError: the package has no program for this machine
        return None


def add_sound(video: str, source: str) -> str:
    """Puts the sound of `source` into `video`, not encoded anew. Where that can't be, it warns, and `video` stays as it
    is.

    Returns:
        The codecs of the sound that is in it now, "" without sound.
    """
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        log.warning(f"the sound of {source}, if it has any, is left out: for that put ffmpeg on the PATH, or pip "
                       "install imageio-ffmpeg")
        return ""

    def copy(target: str) -> None:
        done = run_ffmpeg([ffmpeg, "-v", "error", "-y", "-i", f"file:{video}", "-i", f"file:{source}", "-map", "0:v",
                           "-map", "1:a", "-c", "copy", f"file:{target}"])
        if done.returncode:
            raise OSError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0])
    try:
        codecs = re.findall(r"Stream #.*: Audio: (\w+)", run_ffmpeg([ffmpeg, "-i", f"file:{source}"]).stderr)
        if codecs:
            write(video, copy)
        return ", ".join(codecs)
    except OSError as error:
        log.warning(f"the sound of {source} is left out, as {ffmpeg} can't copy it: {error.strerror or error}")
        return ""


def run_ffmpeg(command: List[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command[0], "-hide_banner", "-nostdin", *command[1:]], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace")
