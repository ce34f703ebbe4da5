"""The sound of a video is copied as it is, or left out with a line that says why."""

import os

import pytest
from films import FFMPEG, darkness, ffmpeg, greys_of
from segmenters import visible

from segrun import sound, video

needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg, or pip install imageio-ffmpeg")


def with_sound(film: str, ending: str, codec: str) -> str:
    """The film with a tone, in another container."""
    path = os.path.join(os.path.dirname(film), f"loud{ending}")
    ffmpeg("-i", film, "-f", "lavfi", "-i", "sine=frequency=440:duration=0.7", "-c:v", "copy", "-c:a", codec, path)
    return path


@needs_ffmpeg
@pytest.mark.parametrize("ending, codec, written", [
    (".avi", "pcm_s16le", ".avi"), (".mov", "aac", ".mp4"), (".mkv", "libopus", ".mp4"), (".mp4", "aac", ".mp4")])
def test_the_sound_is_copied_bit_by_bit(film, ending, codec, written, tmp_path, logged):
    source = with_sound(film, ending, codec)
    target = video.predict_video(darkness(), str(source), str(tmp_path / "out"), alpha=0)
    assert target.endswith(f"loud{written}") and visible(os.path.dirname(target)) == [os.path.basename(target)]
    packets = [ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-") for path in (source, target)]
    assert packets[0] == packets[1] != ""
    found, given = greys_of(target), greys_of(source)
    assert len(found) == 7 and [time for _, time in found] == [100 * i for i in range(7)]
    assert all(abs(a[0] - b[0]) <= 3 for a, b in zip(found, given))         # the codec's loss
    assert ("info", f"{source}: 7 frames, written at 10 a second") in logged
    assert logged[-1][1].endswith(f"with the sound ({codec.replace('lib', '')})")
    assert all(level == "info" for level, _ in logged)


@needs_ffmpeg
def test_a_silent_video_stays_silent_without_a_warning(film, tmp_path, logged):
    target = video.predict_video(darkness(), str(film), str(tmp_path / "out"), alpha=0)
    assert logged[-1] == ("info", f"The video with overlays is {target}, without sound")
    assert all(level == "info" for level, _ in logged)


@needs_ffmpeg
def test_sound_without_ffmpeg_is_left_out_and_said(film, tmp_path, logged, monkeypatch):
    source = with_sound(film, ".mp4", "aac")
    monkeypatch.setattr(sound, "find_ffmpeg", lambda: None)
    target = video.predict_video(darkness(), str(source), str(tmp_path / "out"), alpha=0)
    assert len(greys_of(target)) == 7
    warnings = [line for level, line in logged if level == "warning"]
    assert warnings == [f"the sound of {source}, if it has any, is left out: for that put ffmpeg on the PATH, or pip "
                        "install imageio-ffmpeg"]


PROGRAMS = {
    "fails": ("#!/bin/sh\ncase \"$*\" in *copy*) for last; do :; done; echo part > \"${last#file:}\"\n"
              "echo 'No room for it' >&2; exit 1;; esac\necho '  Stream #0:1: Audio: aac (LC)' >&2\n",
              "No room for it"),
    "is no program": ("no program", "Exec format error"),
}


@pytest.mark.parametrize("program, words", PROGRAMS.values(), ids=PROGRAMS)
def test_sound_that_cannot_be_copied_leaves_the_video_as_it_was(film, program, words, tmp_path, logged, monkeypatch):
    path = tmp_path / "bin" / "ffmpeg"
    path.parent.mkdir()
    path.write_text(program)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    target = video.predict_video(darkness(), str(film), str(tmp_path / "out"), alpha=0)
    assert len(greys_of(target)) == 7 and visible(os.path.dirname(target)) == ["film.avi"]
    assert ("warning", f"the sound of {film} is left out, as {path} can't copy it: {words}") in logged


def test_where_ffmpeg_is_looked_for(tmp_path, monkeypatch):
    package = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sound.find_ffmpeg() == package.get_ffmpeg_exe()
    (tmp_path / "ffmpeg").touch()
    (tmp_path / "ffmpeg").chmod(0o755)
    assert sound.find_ffmpeg() == str(tmp_path / "ffmpeg")
    (tmp_path / "ffmpeg").unlink()
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    assert sound.find_ffmpeg() is None
