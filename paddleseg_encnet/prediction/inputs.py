"""What a user gives to be predicted: an image, a folder of images, a list of them, or a video."""

import os
from typing import Dict, List, Tuple

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


def is_video(path: str) -> bool:
    return path.lower().endswith(VIDEOS)


def find_images(path: str) -> Tuple[List[str], str, Dict[str, str]]:
    """The images of an image, a folder with all below it, or a list of files.

    A line of a list names an image and, if one follows, its label, with a tab or spaces between them, relative to the
    list's folder.

    Returns:
        Paths, sorted; the folder that their names are relative to; {image: label} of those that have one.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no image in it.
    """
    if os.path.isdir(path):
        images = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
                        if is_image(name) and ".ipynb_checkpoints" not in folder)
        if not images:
            raise ValueError(f"no image in the folder {path}; endings looked for: {', '.join(IMAGES)}")
        return images, path, {}
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no image, folder or list {path}")
    if is_image(path):
        return [path], os.path.dirname(path), {}
    pairs = read_list(path)
    return sorted(pairs), os.path.dirname(path), {image: label for image, label in pairs.items() if label}


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not os.path.basename(name).startswith(".")


def read_list(path: str) -> Dict[str, str]:
    """{image: label or ""} of a list; every file is there."""
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is neither an image ({', '.join(IMAGES)}) nor a list of paths") from None
    if not lines:
        raise ValueError(f"the list {path} is empty")
    pairs = {}
    for line in lines:
        whole = os.path.isfile(os.path.join(folder, line))      # a single name, maybe with spaces
        names = [line] if whole else line.split("\t") if "\t" in line else line.split()
        image, label = [os.path.join(folder, name.strip()) for name in names[:2]] + [""] * (len(names) < 2)
        pairs[image] = label
    missing = [file for pair in pairs.items() for file in pair if file and not os.path.isfile(file)]
    if missing:
        raise FileNotFoundError(f"the list {path} names {len(missing)} files that do not exist, the first: "
                                f"{missing[0]}")
    return pairs
