"""What a user gives to be predicted: an image, a folder of images, a list of them, a video or a webcam."""

import os
from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple

from PIL import Image

from segrun.errors import DataError
from segrun.own_files import is_own
from segrun.raw_files import hint_on, read_lines

# Not every Pillow has AVIF.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif",
          *({".avif"} & Image.registered_extensions().keys()))


def is_camera(path: str) -> bool:
    """Whether it is the number of a webcam, and no file is called so."""
    return path.isdecimal() and not os.path.exists(path)


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
        images = [file for file in files_below(path) if is_image(file)]
        if not images:
            raise ValueError(f"no image in the folder {path}; endings looked for: {', '.join(IMAGES)}")
        return images, path, {}
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no image, folder or list {path}{hint_on(path)}")
    if is_image(path):
        return [path], os.path.dirname(path), {}
    pairs = read_list(path)
    return sorted(pairs), os.path.dirname(path), {image: label for image, label in pairs.items() if label}


def files_below(folder: str) -> List[str]:
    """Sorted, without hidden ones and what notebooks keep. Linked folders are followed when all others are known: each
    folder is read once, by the path without a link where it has one, so that circles end."""
    found, seen, waiting = [], set(), [folder]
    while waiting:
        links = []
        for start in waiting:
            for within, folders, names in os.walk(start):
                there = os.stat(within)
                if (there.st_dev, there.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((there.st_dev, there.st_ino))
                links += [os.path.join(within, name) for name in folders if os.path.islink(os.path.join(within, name))]
                if ".ipynb_checkpoints" not in within:
                    found += [os.path.join(within, name) for name in names if not name.startswith(".")]
        waiting = sorted(links)
    return sorted(found)


def without_own(images: List[str], path: str, save_dir: str) -> Tuple[List[str], str]:
    """The images but for those that a tool has written into `save_dir`, where that is in the folder `path`; and a line
    on what was left out, "" if nothing was. Who names them, or their own folder, means them.

    Raises:
        ValueError: no other is there.
    """
    root = os.path.realpath(save_dir) + os.sep
    if not os.path.isdir(path) or not root.startswith(os.path.join(os.path.realpath(path), "")):
        return images, ""
    own = {path for path in images if os.path.realpath(path).startswith(root) and is_own(path)}
    if not own:
        return images, ""
    first = next(path for path in images if path in own)
    told = f"{len(own)} of {len(images)} images are left out, which these tools have written into {save_dir} " \
           f"themselves; the first: {first}"
    if len(own) == len(images):
        raise ValueError(told)
    return [path for path in images if path not in own], told


def left_out_line(path: str, error: Exception) -> str:
    """Of an image that could not be done."""
    return str(error) if path in str(error) else f"{path}: {error}"


def left_out_error(lines: Sequence[str], count: int, total: int) -> DataError:
    """What a tool ends with that has left out `count` of `total` images and done the others.

    Args:
        lines: of those that are known here.
    """
    first = lines[0] if lines else "another rank says which"
    return DataError(f"{count} of {total} images left out: {first}"
                     f"{'; the others stand in the warnings above' if len(lines) > 1 else ''}")


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not os.path.basename(name).startswith(".")


def passed_over(path: str) -> str:
    """A line on the files in a folder, or below, that are not taken for images; "" if there are none."""
    files = [file for file in files_below(path) if not is_image(file)] if os.path.isdir(path) else []
    if not files:
        return ""
    endings = Counter(os.path.splitext(file)[1].lower() or "no ending" for file in files)
    kinds = ", ".join(f"{count} x {ending}" for ending, count in sorted(endings.items()))
    return f"{len(files)} files in {path} are passed over, by their endings no images: {kinds}; the first: {files[0]}"


def output_names(images: List[str], root: Optional[str]) -> Dict[str, str]:
    """Each image's path -> the name of its pictures: the path below `root`, or the file's name if it is not below.

    What is written takes an ending of its own in place of the name's. Images that differ in their endings alone would
    then be one, and have theirs twice: a.jpg.jpg and a.png.png, from which a.jpg.png and a.png.png are written.

    Raises:
        ValueError: two images would write the same pictures all the same.
    """
    names = {}
    for path in images:
        name = os.path.basename(path) if root is None else os.path.relpath(path, root)
        names[path] = os.path.basename(path) if name.split(os.sep)[0] == os.pardir else name
    stems = {path: os.path.splitext(name)[0] for path, name in names.items()}
    while True:         # a name with its ending may be that of a third image: a.jpg.bmp
        taken = Counter(stems.values())
        shared = [path for path in names if taken[stems[path]] > 1 and stems[path] != names[path]]
        if not shared:
            break
        stems.update((path, names[path]) for path in shared)
    owners: Dict[str, str] = {}
    for path, stem in stems.items():
        owner = owners.setdefault(stem, path)
        if owner != path:
            raise ValueError(f"{owner} and {path} would be written to the same pictures; move the list into a folder "
                             "that holds both, or call twice with another --save_dir")
    return {path: stem + os.path.splitext(names[path])[1] for path, stem in stems.items()}


def kept_endings(names: Dict[str, str]) -> str:
    """A line on those of output_names() whose images differ in their endings alone; "" if there are none."""
    kept = [path for path, name in names.items() if os.path.basename(name) != os.path.basename(path)]
    if not kept:
        return ""
    return f"{len(kept)} images differ from another in their endings alone, and what is written of them keeps these: " \
           f"{os.path.splitext(names[kept[0]])[0]}.png of {kept[0]}"


def read_list(path: str) -> Dict[str, str]:
    """{image: label or ""} of a list; every file is there."""
    folder = os.path.dirname(path)
    try:
        lines = [line.strip(" ").rstrip() for line in read_lines(path) if line.strip()]
    except DataError as error:
        raise ValueError(f"{path} is neither an image ({', '.join(IMAGES)}) nor a list of paths: {error}") from None
    if not lines:
        raise ValueError(f"the list {path} is empty")
    pairs = {}
    for line in lines:
        if line.startswith("\t"):
            raise ValueError(f"the list {path} has a line without an image: {line!r}")
        whole = os.path.isfile(os.path.join(folder, line))      # a single name, maybe with spaces
        names = [line] if whole else line.split("\t") if "\t" in line else line.split()
        image, label = [os.path.join(folder, name.strip()) for name in names[:2]] + [""] * (len(names) < 2)
        pairs[image] = label
    missing = [file for pair in pairs.items() for file in pair if file and not os.path.isfile(file)]
    if missing:
        raise FileNotFoundError(f"the list {path} names {len(missing)} files that do not exist, the first: "
                                f"{missing[0]}{hint_on(missing[0])}")
    return pairs
