"""A generated data set of street scenes in the layout of Cityscapes.

The real Cityscapes needs a registration and 11 GB. This package draws a stand-in on any machine in seconds, so that
training, evaluation and export can be tried whole: same folders, same file names, same 19 train ids. Its four kinds of
scene, which take the place of the cities, are `highway`, `city`, `residential` and `crossing` (layout.py).

`render` draws one scene, `generate` writes a data set.
"""

import contextlib
import functools
import json
import multiprocessing
import multiprocessing.pool
import os
import shutil
import sys
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import cv2
import numpy as np

from paddleseg_encnet.runtime.forking import forked_pool
from paddleseg_encnet.scenes.canvas import Camera, Canvas
from paddleseg_encnet.scenes.furniture import draw_hood
from paddleseg_encnet.scenes.layout import (
    KINDS,
    Layout,
    add_barriers,
    add_furniture,
    add_houses,
    add_trees,
)
from paddleseg_encnet.scenes.materials import LIGHTS
from paddleseg_encnet.scenes.surroundings import develop, draw_backdrop, draw_ground, draw_shadows, draw_sky
from paddleseg_encnet.scenes.traffic import add_people, add_traffic
from segrun.cpu import cpu_count

SPLITS = ('train', 'val')
MIN_SIZE = (64, 32)
RECORD = 'scenes.json'
VERSION = 1  # raise when the same seed no longer draws the same pictures


def _check_size(size: Tuple[int, int]) -> Tuple[int, int]:
    width, height = (int(n) for n in size)
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        raise ValueError(
            'size {}x{} is too small for a scene: need at least {}x{} '
            '(width x height)'.format(width, height, *MIN_SIZE))
    return width, height


def render(kind: str, index: int, split: str = 'train', size: Tuple[int, int] = (512, 256),
           seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    The same arguments always give the same picture; it does not matter what
    else was drawn before.

    Args:
        kind (str): a key of `KINDS`.
        index (int): number of the scene within its split and kind, from 0.
        split (str): 'train' or 'val'; they never share a scene.
        size (tuple): (width, height) in pixels, at least 64x32.
        seed (int): not negative.

    Returns:
        tuple: image, (height, width, 3) uint8 RGB, and label, (height, width)
        uint8 train ids 0..18 or 255 for what belongs to no class.

    Raises:
        ValueError: unknown kind or split, negative number, too small a size.
    """
    if kind not in KINDS or split not in SPLITS:
        raise ValueError('no scene of kind {!r} in split {!r}: kinds are {}, '
                         'splits are {}'.format(kind, split, ', '.join(KINDS),
                                                ', '.join(SPLITS)))
    if min(seed, index) < 0:
        raise ValueError('seed and index must not be negative, got {} and '
                         '{}'.format(seed, index))
    width, height = _check_size(size)
    rng = np.random.default_rng(
        (seed, SPLITS.index(split), list(KINDS).index(kind), index))
    camera = Camera(width, height, rng.uniform(.78, 1.) * width,
                    rng.uniform(.4, .6) * width, rng.uniform(.4, .5) * height,
                    rng.uniform(1.3, 1.6))
    light = LIGHTS[int(rng.choice(3, p=(.5, .3, .2)))]
    rise, turn = rng.uniform(*light.sun_height), rng.uniform(-np.pi, np.pi)
    level = np.sqrt(1 - rise ** 2)
    canvas = Canvas(camera, light, (level * np.sin(turn), rise,
                                    level * np.cos(turn)), rng)
    layout = Layout(kind, rng)
    for add in (add_houses, add_barriers, add_trees, add_furniture,
                add_traffic, add_people):
        add(layout)
    draw_sky(canvas)
    draw_backdrop(canvas, layout.kind.backdrop)
    draw_ground(canvas, layout)
    draw_shadows(canvas, layout)
    for _, _, draw, args, _ in sorted(layout.things,
                                      key=lambda thing: (-thing[0], thing[1])):
        draw(canvas, *args)
    draw_hood(canvas, rng.uniform(.05, .09))
    return develop(canvas), canvas.label


def scene_names(split: str, count: int) -> List[Tuple[str, int, str, str]]:
    """The scenes of a split: a list of (kind, index, image path, label path),
    paths relative to the root of the data set.  Kinds take turns."""
    names = []
    for i in range(count):
        index, turn = divmod(i, len(KINDS))
        city = list(KINDS)[turn]
        stem = '{}_{:06d}_000019_'.format(city, index)
        names.append((
            city, index,
            os.path.join('leftImg8bit', split, city, stem + 'leftImg8bit.png'),
            os.path.join('gtFine', split, city,
                         stem + 'gtFine_labelTrainIds.png')))
    return names


def _write_scene(root: str, size: Tuple[int, int], seed: int, scene: Tuple[str, str, int, str, str]) -> None:
    split, kind, index, image_path, label_path = scene
    image, label = render(kind, index, split, size, seed)
    for path, pixels in ((image_path, image[..., ::-1]), (label_path, label)):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not cv2.imwrite(path, pixels):
            raise OSError('cannot write {}'.format(path))


@contextlib.contextmanager
def _processes(jobs: int) -> Iterator[multiprocessing.pool.Pool]:
    """A pool with a process for each core, but not for a handful of scenes."""
    # Forked where that is safe, as a new process would import Paddle first.
    method = 'fork' if sys.platform.startswith('linux') else 'spawn'
    with forked_pool():
        pool = multiprocessing.get_context(method).Pool(
            max(1, min(cpu_count(), jobs // 8)))
        try:
            yield pool
            # They end by themselves: on a signal Paddle's handler, which they
            # inherited, prints a stack.
            pool.close()
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.join()


def _is_complete(root: str, record: Dict[str, Any]) -> bool:
    """Whether `root` holds the set that `record` describes; False if there is
    nothing yet.  Raises FileExistsError if it holds anything else."""
    if os.path.isdir(root) and not os.listdir(root):
        return False
    if not os.path.lexists(root):
        return False
    path = os.path.join(root, RECORD)
    if not os.path.isfile(path):
        raise FileExistsError(
            '{} exists, but holds no {} and so is no complete set of scenes: '
            'give another folder or delete it'.format(root, RECORD))
    with open(path, encoding='utf-8') as file:
        try:
            found = json.load(file)
        except ValueError:
            found = None
    if found != record:
        raise FileExistsError(
            '{} holds scenes made with other parameters ({} instead of {}): '
            'give another folder or delete it'.format(
                root, json.dumps(found), json.dumps(record)))
    for split in SPLITS:
        for name in scene_names(split, record[split]):
            for part in name[2:]:
                if not os.path.isfile(os.path.join(root, part)):
                    raise FileExistsError(
                        '{} lacks {}: delete the folder to have it made '
                        'anew'.format(root, part))
    return True


def generate(root: str, train: int = 200, val: int = 50, size: Tuple[int, int] = (512, 256), seed: int = 0,
             progress: Optional[Callable[[int, int], None]] = None) -> bool:
    """Writes a data set of street scenes in the layout of Cityscapes.

    Files are `leftImg8bit/<split>/<kind>/<kind>_<6 digits>_000019_leftImg8bit
    .png` (8-bit RGB) and `gtFine/<split>/<kind>/<kind>_<6 digits>_000019_
    gtFine_labelTrainIds.png` (8 bit, one channel, 0..18 and 255), where kinds
    take turns, and `scenes.json` with the parameters.  They appear all at once
    when the last is drawn.  A complete set that has the same parameters is
    left as it is.

    Args:
        root (str): folder to write; must be absent, empty or such a set.
        train, val (int): number of scenes in each split, at least 1.
        size (tuple): (width, height) in pixels, at least 64x32.
        seed (int): not negative; the same seed gives the same files, and
            more scenes only add to fewer.
        progress (callable): called with (done, total) after each scene.

    Returns:
        bool: True if the set was written, False if it was there already.

    Raises:
        ValueError: a parameter is out of range.
        FileExistsError: `root` holds something else.
        OSError: a file cannot be written.
    """
    width, height = _check_size(size)
    if min(train, val) < 1 or seed < 0:
        raise ValueError('train and val must be at least 1 and seed not '
                         'negative, got {}, {} and {}'.format(train, val,
                                                              seed))
    record = {'version': VERSION, 'train': int(train), 'val': int(val),
              'size': [width, height], 'seed': int(seed)}
    root = os.path.abspath(root)
    if _is_complete(root, record):
        return False
    parent, name = os.path.split(root)
    os.makedirs(parent, exist_ok=True)
    # A sibling is on the same disk, so that the rename is a single step.
    work = tempfile.mkdtemp(prefix='.{}.'.format(name), dir=parent)
    try:
        whole = os.path.join(work, name)
        jobs = [(split, *scene) for split, count in zip(SPLITS, (train, val))
                for scene in scene_names(split, count)]
        write = functools.partial(_write_scene, whole, (width, height), seed)
        with _processes(len(jobs)) as pool:
            for done, _ in enumerate(pool.imap_unordered(write, jobs), 1):
                if progress is not None:
                    progress(done, len(jobs))
        with open(os.path.join(whole, RECORD), 'w', encoding='utf-8') as file:
            json.dump(record, file, indent=2)
            file.write('\n')
        if os.path.isdir(root):
            os.rmdir(root)  # it is empty, or this fails as it should
        os.rename(whole, root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True
