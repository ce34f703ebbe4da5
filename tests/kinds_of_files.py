"""A folder as people have it: images of several kinds, and what is none."""

import pathlib

import cv2
from PIL import Image
from segmenters import picture


def folder_of_kinds(folder: pathlib.Path) -> pathlib.Path:
    """Two images that differ in their endings alone, a third, a GIF, a moving one, and what is no image."""
    (folder / "b").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b/c.png"):
        cv2.imwrite(str(folder / name), picture(64, 64))
    frames = [Image.fromarray(picture(64, 64)) for _ in range(2)]
    frames[0].save(folder / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("notes.txt", "b/more.TXT", "raw.heic", "LICENCE", ".hidden", "b/.hidden.png"):
        (folder / name).write_bytes(b"no image")
    return folder
