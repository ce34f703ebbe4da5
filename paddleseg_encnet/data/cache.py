"""Images and labels as they were decoded, in files that are mapped into memory: decoding is most of a sample's time.

A file for each image and label, whose name is a digest of what it is: the source's absolute path, how it is read, and
who reads it; then the source's size and time of modification, so that a changed source has no file here and is decoded.
In it are the array's bytes, then a line that says all this, from which the next run knows what is stale, then the
line's length. Files appear whole, by renaming; whoever uses the folder holds a shared lock on it, and the one that is
alone clears up what a killed run left.
"""

import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import json
import mmap
import os
import shutil
import uuid
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import cv2
import numpy as np
import PIL
from paddle.io import Dataset
from paddleseg.utils import logger

from paddleseg_encnet.data.cache_room import CacheError, Room, folder_in_memory, gib, of_disk, of_memory
from paddleseg_encnet.data.looking import header_of
from paddleseg_encnet.data.reading import FILES, Reader, read_by
from paddleseg_encnet.runtime.devices import Ranks
from segrun.progress import Progress

try:
    import fcntl
except ImportError:     # Windows: nothing tells whether another run is at work, and leftovers stay
    fcntl = None    # type: ignore[assignment]

RAM = "ram"
# Others may make other pixels of the same file; a JPEG's for instance.
READER = f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}, format 2"
ARRAY, PARTIAL = ".array", ".partial"
LENGTH = 4              # bytes of the line's length, at the very end
HEADERS = 1000          # files whose headers tell how large all will be
OVERHEAD = 4096         # of a file: its header and text, and what is free in its last block


class CachedFile(NamedTuple):
    """A file of a data set and how it is read: an image of so many channels, or a label where that is None."""
    path: str
    channels: Optional[int]

    def decoded(self) -> np.ndarray:
        return FILES.label(self.path) if self.channels is None else FILES.image(self.path, self.channels)

    def size(self) -> int:
        """Bytes of the array, told by the file's header; images of other than 1 or 3 channels are decoded for it."""
        if self.channels in (None, 1, 3):
            (height, width), channels = header_of(self.path, "label" if self.channels is None else "image")
            return height * width * (self.channels or channels)
        return self.decoded().nbytes


def sources(dataset: Dataset) -> Iterator[CachedFile]:
    """What a data set reads: PaddleSeg's with a list of files, and ours. Labels that are no pictures are left out."""
    channels = getattr(dataset.transforms, "img_channels", 3)
    for image, *label in dataset.file_list:
        if isinstance(image, str):
            yield CachedFile(image, channels)
        if label and isinstance(label[0], str) and not label[0].endswith((".npy", ".npz")):
            yield CachedFile(label[0], None)


class Cache(Reader):
    """Arrays in the files of a folder, within `with`; as a reader it has them, and decodes what is not there.

    Args:
        folder: is made if it is not there.
        room: how much there is in it.
        passing: it is this user's alone, and the last that uses it removes it.

    Raises:
        CacheError: the folder can't be made, or is not this user's where it must be.
    """

    def __init__(self, folder: str, room: Callable[[str], Room] = of_disk, passing: bool = False):
        self.folder = os.path.abspath(folder)
        self.room = room
        self.passing = passing
        self.descriptor: Optional[int] = None       # of the folder, while it is in use; its lock is on it

    def __enter__(self) -> "Cache":
        while True:
            try:
                os.makedirs(self.folder, mode=0o700 if self.passing else 0o777, exist_ok=True)
                self.descriptor = None if fcntl is None else os.open(self.folder, os.O_RDONLY)
            except OSError as error:
                raise CacheError(f"cannot use {self.folder} as a cache: {error.strerror}") from error
            if self.passing and os.stat(self.folder).st_uid != os.getuid():
                raise CacheError(f"{self.folder} belongs to another user: name a folder, --cache DIR")
            if self.alone():
                self.remove(name for name in os.listdir(self.folder) if self.passing or name.endswith(PARTIAL))
            self.lock_shared()
            if self.is_there():
                return self
            os.close(self.descriptor)       # its last user removed it in between

    def __exit__(self, *exception: object) -> None:
        if self.passing and self.alone():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.descriptor is not None:
            os.close(self.descriptor)

    # filelock (4.3.1) was weighed: its lock of readers and a writer is a database; these two functions are 12 lines.
    def alone(self) -> bool:
        """Whether no other process uses the folder. This one then has it for itself until it shares it."""
        if self.descriptor is None:
            return False
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:         # or there are no locks on this file system
            return False

    def lock_shared(self) -> None:
        if self.descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def is_there(self) -> bool:
        """Whether the folder is still the one that was opened."""
        try:
            return self.descriptor is None or os.path.samestat(os.stat(self.folder), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def image(self, path: str, channels: int = 3) -> np.ndarray:
        kept = self.get(path, channels)
        return super().image(path, channels) if kept is None else kept

    def label(self, path: str) -> np.ndarray:
        kept = self.get(path, None)
        return super().label(path) if kept is None else kept

    def place(self, source: CachedFile) -> str:
        """The file for a source as it is now. Raises OSError where that is not there."""
        name = digest(READER, os.path.abspath(source.path), source.channels)
        return os.path.join(self.folder, f"{name}.{version(os.stat(source.path))}{ARRAY}")

    def get(self, path: str, channels: Optional[int]) -> Optional[np.ndarray]:
        """The array, mapped from its file, or None. What is written into it stays in this process."""
        try:
            return mapped_array(self.place(CachedFile(path, channels)))[0]
        except (OSError, ValueError, TypeError):        # none, or one that the machine's crash cut short
            return None

    def keep(self, source: CachedFile) -> None:
        """Writes the file of a source.

        Raises:
            DataError: the source can't be read.
            CacheError: the file can't be written, for instance because the disk is full.
        """
        if self.get(*source) is not None:       # another rank was faster
            return
        try:
            place = self.place(source)
        except OSError:
            place = None
        array = source.decoded()                # raises where there is no such file
        if place is None or self.place(source) != place:        # it is being changed; the next reader sees to it
            return
        partial = os.path.join(self.folder, f"{uuid.uuid4().hex}{PARTIAL}")
        try:
            line = json.dumps([READER, os.path.abspath(source.path), array.dtype.str, array.shape]).encode()
            with open(partial, "xb") as file:
                file.write(np.ascontiguousarray(array).data)
                file.write(line + len(line).to_bytes(LENGTH, "little"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, place)
        except OSError as error:
            free = ""
            if error.errno == errno.ENOSPC:
                free = f"; {gib(shutil.disk_usage(self.folder).free)} GiB are free there"
            raise CacheError(f"cannot write into the cache {self.folder}: {error.strerror}{free}") from error
        finally:
            self.remove([os.path.basename(partial)])

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.folder, name))

    def is_stale(self, name: str) -> bool:
        """Whether the source of a file has changed, or is gone from a folder that is there (a disk may come back), or
        another version of a library decoded it."""
        try:
            _, reader, source = mapped_array(os.path.join(self.folder, name))
        except (OSError, ValueError, TypeError):        # damaged
            return True
        try:
            return reader != READER or name.split(".", 1)[1] != f"{version(os.stat(source))}{ARRAY}"
        except OSError:
            return os.path.isdir(os.path.dirname(source))

    def fill(self, datasets: list, num_workers: int = 0, rank: int = 0, ranks: int = 1) -> None:
        """Writes what is not there yet of all that these data sets read, with progress on stderr.

        Each rank begins with its share and helps the others from their ends, so that it does not matter which ranks
        see the same folder.

        Raises:
            DataError: a source can't be read.
            CacheError: there is no room for it, which is found out before anything is written.
        """
        wanted = list(dict.fromkeys(source for dataset in datasets for source in sources(dataset)))
        lacking = [source for source in wanted if self.get(*source) is None]
        self.remove_stale({os.path.basename(self.place(source)) for source in set(wanted).difference(lacking)})
        if lacking:
            self.check_room(lacking)
            logger.info(f"Cache: decoding {len(lacking)} images and labels into {self.folder}")
            lacking.sort(key=lambda source: source.channels is None)        # so that each has its share of both kinds
            shares = [lacking[k::ranks] for k in range(ranks)]
            own = shares.pop(rank)
            of_others = [source for share in shares for source in reversed(share)]
            self.keep_all(own + of_others, num_workers, visible=rank == 0)
        logger.info(f"Cache: {len(wanted)} images and labels are read from {self.folder}")

    def remove_stale(self, fresh: Set[str]) -> None:
        """Removes the files of sources that are others now. Those in `fresh` are known not to be."""
        others = set(os.listdir(self.folder)) - fresh
        stale = [name for name in others if name.endswith(ARRAY) and self.is_stale(name)]
        self.remove(stale)
        if stale:
            logger.info(f"Cache: removed {len(stale)} files of images and labels that are others now")

    def keep_all(self, lacking: List[CachedFile], num_workers: int, visible: bool) -> None:
        progress = Progress(len(lacking), "images and labels", visible)
        # Threads: the decoders let others run while they work.
        with contextlib.closing(progress), concurrent.futures.ThreadPoolExecutor(max(num_workers, 1)) as pool:
            for _ in pool.map(self.keep, lacking):
                progress.advance()

    def check_room(self, lacking: List[CachedFile]) -> None:
        needed, room = needed_for(lacking), self.room(self.folder)
        if needed > room.free:
            raise CacheError(f"the cache needs about {gib(needed)} GiB for {len(lacking)} images and labels, and "
                             f"{gib(room.free)} GiB {room.what}: {room.advice}")


@functools.lru_cache(2 ** 17)
def digest(*what: object) -> str:
    return hashlib.blake2b(json.dumps(what).encode(), digest_size=16).hexdigest()


def mapped_array(file: str) -> Tuple[np.ndarray, str, str]:
    """The array in a file, who read it and from which path.

    Raises:
        OSError, ValueError, TypeError: there is no such file, or it is damaged.
    """
    with open(file, "rb") as opened:
        memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    end = len(memory) - LENGTH
    reader, path, dtype, shape = json.loads(memory[end - int.from_bytes(memory[end:], "little"):end])
    return np.ndarray(shape, dtype, memory), reader, path


def version(status: os.stat_result) -> str:
    return f"{status.st_size:x}.{status.st_mtime_ns:x}"


def needed_for(lacking: List[CachedFile]) -> int:
    """Bytes that these will take: exactly, or where they are many, what some of them make likely."""
    kinds: Dict[Optional[int], List[CachedFile]] = {}
    for source in lacking:
        kinds.setdefault(source.channels, []).append(source)
    total = 0
    for channels, members in kinds.items():
        most = HEADERS if channels in (None, 1, 3) else 10      # others are decoded for it
        step = -(-len(members) // most)
        mean = np.mean([source.size() for source in members[::step]])
        total += int(mean * len(members)) + OVERHEAD * len(members)
    return total


@contextlib.contextmanager
def cached(where: Optional[str], datasets: list, num_workers: int = 0, ranks: Optional[Ranks] = None) -> Iterator[list]:
    """Gives these data sets as ones that read, within it, from a cache that is filled first.

    Args:
        where: a folder; "ram" for one in memory, which all ranks of this machine share and the last one removes; None
            for no cache.
        datasets: PaddleSeg data sets; None among them stays None.
        num_workers: threads that decode, on each rank.
        ranks: wait for each other, as their disks may differ.

    Raises:
        DataError, CacheError: as Cache.fill().
    """
    if where is None:
        yield datasets
        return
    ranks = ranks or Ranks(0, 1)
    kept = Cache(folder_in_memory(), of_memory, passing=True) if where == RAM else Cache(where)
    with kept as cache:
        cache.fill([dataset for dataset in datasets if dataset is not None], num_workers, ranks.rank, ranks.count)
        ranks.meet()
        yield [None if dataset is None else read_by(cache, dataset) for dataset in datasets]
