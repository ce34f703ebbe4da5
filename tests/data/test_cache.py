"""A cache gives what the files give, bit by bit, however it came about, and nothing of files that are others now."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import cv2
import numpy as np
import PIL
import pytest
from conftest import ROOT
from paddleseg.datasets import ADE20K, Dataset
from paddleseg.transforms import Normalize, RandomDistort, RandomHorizontalFlip, RandomPaddingCrop, ResizeStepScaling
from PIL import Image

from paddleseg_encnet.data import cache, cache_room, reading
from paddleseg_encnet.data.cache import Cache, CachedFile, cached, sources
from paddleseg_encnet.data.cache_room import CacheError
from paddleseg_encnet.data.order import Batches
from paddleseg_encnet.data.reading import read_image, read_label, reader_of
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.runtime.devices import Ranks
from segrun.errors import DataError
from segrun.image import read_file

SIZE = (30, 40)


def transforms():
    return [ResizeStepScaling(), RandomPaddingCrop((32, 24)), RandomHorizontalFlip(), RandomDistort(), Normalize()]


class Files:
    """Six images in two folders, whose names are the same, as a data set of PaddleSeg."""

    def __init__(self, root):
        self.root, self.random, self.pairs = root, np.random.default_rng(0), []
        for name in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"):
            (root / name).parent.mkdir(exist_ok=True)
            self.pairs.append((root / f"{name}.png", root / f"{name}_label.png"))
            self.image(len(self.pairs) - 1)
            Image.fromarray(self.random.integers(0, 5, SIZE, dtype=np.uint8)).save(self.pairs[-1][1])
        (root / "list.txt").write_text("".join(f"{image} {label}\n" for image, label in self.pairs))

    def image(self, index):
        cv2.imwrite(str(self.pairs[index][0]), self.random.integers(0, 256, (*SIZE, 3), dtype=np.uint8))

    def dataset(self, **options):
        return Dataset("train", str(self.root), transforms(), 5, train_path=str(self.root / "list.txt"), **options)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "data").mkdir()
    return Files(tmp_path / "data")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def samples(dataset, epochs=3):
    checked, made = Checked(dataset), []
    for seed in range(epochs):
        for index in range(len(dataset)):
            random.seed(seed)
            np.random.seed(seed)
            sample = checked[index]
            made.append((sample["img"], sample["label"], random.random(), np.random.rand()))
    return made


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype


@contextlib.contextmanager
def nothing_decoded(monkeypatch):
    def refuse(path, *channels):
        raise AssertionError(f"{path} is decoded")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_image", refuse)
        patch.setattr(reading, "read_label", refuse)
        yield


@pytest.mark.parametrize("workers", [0, 3])
def test_samples_are_those_without_a_cache(files, folder, monkeypatch, workers):
    anew = samples(files.dataset())
    with cached(str(folder), [files.dataset(), None], workers) as (dataset, none), nothing_decoded(monkeypatch):
        assert_equal(samples(dataset), anew)
        assert none is None
    assert len(os.listdir(folder)) == 12
    # And again, without decoding anything for the cache either.
    with nothing_decoded(monkeypatch), cached(str(folder), [files.dataset()]) as (dataset,):
        assert_equal(samples(dataset), anew)
    with cached(None, [files.dataset()]) as (dataset,):
        assert_equal(samples(dataset), anew)


def test_a_data_set_reads_from_what_it_was_given_and_no_other_does(files, folder, tmp_path, monkeypatch):
    plain = files.dataset()
    anew = samples(plain, 1)
    with cached(str(folder), [plain]) as (one,), cached(str(tmp_path / "other"), [plain]) as (other,):
        assert reader_of(one.transforms).folder == str(folder)
        assert reader_of(other.transforms).folder == str(tmp_path / "other")
        assert reader_of(plain.transforms) is reading.FILES
        shutil.rmtree(tmp_path / "other")
        with nothing_decoded(monkeypatch):
            assert_equal(samples(one, 1), anew)
            with pytest.raises(AssertionError, match="a/0.png is decoded"):
                plain.transforms({"img": str(files.pairs[0][0])})
            with pytest.raises(AssertionError, match="a/0.png is decoded"):
                other.transforms({"img": str(files.pairs[0][0])})
        assert_equal(samples(other, 1), anew)       # what is not in its cache is decoded


@pytest.mark.parametrize("mode", ["train", "val"])
def test_ade20k_whose_labels_are_read_apart(tmp_path, folder, monkeypatch, mode):
    split = {"train": "training", "val": "validation"}[mode]
    for part in ("images", "annotations"):
        (tmp_path / part / split).mkdir(parents=True)
    Image.new("RGB", (4, 3), "red").save(tmp_path / "images" / split / "a.jpg")
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "annotations" / split / "a.png")
    plain = ADE20K([Normalize()], str(tmp_path), mode)
    with cached(str(folder), [plain]) as (dataset,), nothing_decoded(monkeypatch):
        found = dataset[0], Checked(dataset).read(0)
    for sample in found:
        assert_equal([(sample["img"], sample["label"])], [(plain[0]["img"], plain[0]["label"])])


def test_workers_of_a_loader_read_from_it(files, folder, monkeypatch):
    def batches(dataset, workers):
        made = []
        for batch, _ in zip(Batches(dataset, 2, workers, seed=3), range(4)):
            made.append((batch["img"].numpy(), batch["label"].numpy()))
        return made

    anew = batches(files.dataset(), 0)
    with cached(str(folder), [files.dataset()], 2) as (dataset,), nothing_decoded(monkeypatch):
        assert_equal(batches(dataset, 2), anew)


def test_what_a_transform_writes_into_an_array_stays_with_it(files, folder):
    image, label = map(str, files.pairs[0])
    with cached(str(folder), [files.dataset()]) as (dataset,):
        reader = reader_of(dataset.transforms)
        before = reader.image(image).copy(), reader.label(label).copy()
        reader.image(image)[:] = 0
        reader.label(label)[:] = 7
        assert_equal([(reader.image(image), reader.label(label))], [before])


def write_16_bits(path):
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 2 ** 16, (6, 5, 4), dtype=np.uint16))


def write_many_channels(path):
    import tifffile
    tifffile.imwrite(path, np.random.default_rng(0).random((6, 5, 6), dtype=np.float32), photometric="minisblack",
                     planarconfig="contig")


@pytest.mark.parametrize("name, write, channels, dtype", [
    ("colours", lambda path: cv2.imwrite(path, np.arange(90, dtype=np.uint8).reshape(6, 5, 3)), 3, "uint8"),
    ("colours.png", lambda path: cv2.imwrite(path, np.arange(90, dtype=np.uint8).reshape(6, 5, 3)), 1, "uint8"),
    ("photograph.jpg", lambda path: shutil.copy(ROOT / "docs" / "images" / "street.jpg", path), 3, "uint8"),
    ("16_bits.png", write_16_bits, 4, "uint16"), ("16_bits.png", write_16_bits, 3, "uint8"),
    ("bands.tif", write_many_channels, 6, "float32")])
def test_images_of_any_type_and_channels(tmp_path, folder, name, write, channels, dtype):
    path = str(tmp_path / (name if "." in name else f"{name}.bmp"))
    write(path)
    anew = read_image(path, channels)
    with Cache(str(folder)) as kept:
        kept.keep(CachedFile(path, channels))
        got = kept.get(path, channels)
        assert got.dtype == anew.dtype == dtype and type(got) is np.ndarray
        np.testing.assert_array_equal(got, anew)
        assert kept.get(path, 2) is None and kept.get(path, None) is None       # of another way to read it
        assert CachedFile(path, channels).size() == anew.nbytes


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB"])
def test_labels_of_any_type(tmp_path, folder, mode):
    path = str(tmp_path / "label.png")
    ids = np.random.default_rng(0).integers(0, 2, (6, 5, 3) if mode == "RGB" else (6, 5))
    if mode == "I;16":
        Image.fromarray((300 * ids).astype(np.uint16)).save(path)
    else:
        Image.fromarray(ids.astype(np.uint8)).convert(mode).save(path)
    with Cache(str(folder)) as kept:
        kept.keep(CachedFile(path, None))
        np.testing.assert_array_equal(kept.get(path, None), read_label(path))
        assert kept.get(path, None).dtype == read_label(path).dtype


def test_sources(files):
    found = list(sources(files.dataset(img_channels=1)))
    assert found[:2] == [(str(files.pairs[0][0]), 1), (str(files.pairs[0][1]), None)] and len(found) == 12
    dataset = files.dataset()
    dataset.file_list = [["a.png", None], ["b.png"], ["c.png", "c.npz"], [np.zeros(3), "d.png"]]
    assert list(sources(dataset)) == [("a.png", 3), ("b.png", 3), ("c.png", 3), ("d.png", None)]


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_read_anew_and_what_was_kept_of_it_goes(files, folder, change):
    path = str(files.pairs[4][0])
    with cached(str(folder), [files.dataset()]) as (dataset,):
        before = set(os.listdir(folder))
        if change == "content":
            files.image(4)
        else:
            os.utime(path, ns=(0, 1))
        expected = read_file(path)
        # While it is in use, too.
        np.testing.assert_array_equal(reader_of(dataset.transforms).image(path), expected)
    with cached(str(folder), [files.dataset()]) as (dataset,):
        after = set(os.listdir(folder))
        assert len(after) == 12 and len(after - before) == 1
        np.testing.assert_array_equal(reader_of(dataset.transforms).image(path), expected)


def test_files_that_are_gone(files, folder, tmp_path):
    """Of a folder that is there they are forgotten; one that is not may be on a disk that comes back."""
    with cached(str(folder), [files.dataset()]):
        pass
    for path in files.pairs[5]:
        path.unlink()
    lines = (files.root / "list.txt").read_text().splitlines()
    (files.root / "list.txt").write_text("\n".join(lines[:3]))
    shutil.move(files.root / "a", tmp_path / "away")
    with Cache(str(folder)) as kept:
        kept.fill([])
    assert len(os.listdir(folder)) == 10
    shutil.move(tmp_path / "away", files.root / "a")
    with cached(str(folder), [files.dataset()]) as (dataset,):
        assert len(os.listdir(folder)) == 10
        files.pairs[1][0].unlink()
        with pytest.raises(DataError, match="there is no file .*a/1.png"):
            reader_of(dataset.transforms).image(str(files.pairs[1][0]))


def test_what_another_version_decoded_is_stale(files, folder, monkeypatch):
    with cached(str(folder), [files.dataset()]):
        before = set(os.listdir(folder))
    assert cv2.__version__ in cache.READER and PIL.__version__ in cache.READER
    monkeypatch.setattr(cache, "READER", "OpenCV 0.0")
    with cached(str(folder), [files.dataset()]):
        after = set(os.listdir(folder))
    assert len(after) == 12 and not after & before


def test_cut_files_are_written_again(files, folder):
    """As a crash of the machine may leave them; a killed run leaves those of another name, which go."""
    with cached(str(folder), [files.dataset()]):
        names = sorted(os.listdir(folder))
    for name, share in zip(names, (0, 0.3, 0.9)):
        os.truncate(folder / name, int(os.path.getsize(folder / name) * share))
    (folder / f"left{cache.PARTIAL}").write_bytes(b"half")
    anew = samples(files.dataset(), 1)
    with cached(str(folder), [files.dataset()]) as (dataset,):
        assert sorted(os.listdir(folder)) == names
        assert all(cache.mapped_array(str(folder / name))[0].size for name in names)
        assert_equal(samples(dataset, 1), anew)


BUILD = """
import sys, time
import paddleseg_encnet
from paddleseg_encnet.data import cache, reading
from paddleseg.datasets import Dataset
from paddleseg.utils import logger
logger.info = lambda line: None
root, folder, rank, slow = sys.argv[1:]
decode = reading.read_image
def slowly(*arguments):
    print("an image", flush=True)
    time.sleep(float(slow))
    return decode(*arguments)
reading.read_image = slowly
data = Dataset("train", root, [], 5, train_path=f"{root}/list.txt")
with cache.cached(folder, [data], 0, cache.Ranks(int(rank), 2)):
    print("built", flush=True)
"""


def building(files, folder, rank, slow):
    return subprocess.Popen([sys.executable, "-c", BUILD, str(files.root), str(folder), str(rank), str(slow)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_two_processes_at_once_share_the_work(files, folder, monkeypatch):
    processes = [building(files, folder, rank, 0.4) for rank in (0, 1)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    counts = [output.count("an image") for output, _ in outputs]
    assert all("built" in output for output, _ in outputs)
    # Each image once, but for those that both begin with at the same moment; one process may have started late.
    assert 6 <= sum(counts) <= 8
    anew = samples(files.dataset(), 1)
    with cached(str(folder), [files.dataset()]) as (dataset,), nothing_decoded(monkeypatch):
        assert_equal(samples(dataset, 1), anew)


def test_a_killed_build_goes_on_and_leaves_nothing_half(files, folder):
    process = building(files, folder, 0, 0.2)
    for _ in range(3):
        assert process.stdout.readline() == "an image\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {name: (folder / name).stat().st_ino for name in os.listdir(folder)}
    assert 0 < len(kept) < 12
    (folder / f"x{cache.PARTIAL}").touch()
    with cached(str(folder), [files.dataset()]):
        now = {name: (folder / name).stat().st_ino for name in os.listdir(folder)}
    assert len(now) == 12 and kept.items() <= now.items()


def test_what_another_run_is_writing_is_left_alone(files, folder):
    process = building(files, folder, 0, 0.5)
    assert process.stdout.readline() == "an image\n"
    (folder / f"x{cache.PARTIAL}").touch()
    with Cache(str(folder)):
        assert (folder / f"x{cache.PARTIAL}").exists()
    assert process.communicate(timeout=60) and process.returncode == 0
    with Cache(str(folder)):
        assert not (folder / f"x{cache.PARTIAL}").exists()


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_is_refused_with_numbers(files, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 ** 40, 0, 50000))
    monkeypatch.setattr(cache, "gib", lambda count: f"{count:.0f}/")
    needed = 6 * (30 * 40 * 4 + 2 * cache.OVERHEAD)
    with pytest.raises(CacheError, match=rf"about {needed}/ GiB for 12 images and labels, and 50000/ GiB are free at "
                                         rf"{re.escape(str(folder))}: name a folder on a larger disk"):
        with cached(str(folder), [files.dataset()]):
            raise AssertionError
    assert os.listdir(folder) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 ** 40, 0, needed))
    with cached(str(folder), [files.dataset()]):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 ** 40, 0, 0))
    with cached(str(folder), [files.dataset()]):        # it is all there
        pass


def test_the_size_of_many_files_is_told_by_some_of_them(monkeypatch):
    sizes = {f"{index}.png": 1000 * index for index in range(100)}
    monkeypatch.setattr(CachedFile, "size", lambda source: sizes[source.path])
    for headers, mean in ((100, 49500), (1000, 49500), (50, 49000), (1, 0)):       # all; all; each second; the first
        monkeypatch.setattr(cache, "HEADERS", headers)
        assert cache.needed_for([CachedFile(path, 3) for path in sizes]) == 100 * (mean + cache.OVERHEAD)


def test_a_disk_that_becomes_full_ends_in_one_line(files, folder, monkeypatch):
    def fsync(descriptor):
        if len(os.listdir(folder)) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CacheError, match=rf"cannot write into the cache {re.escape(str(folder))}: No space left on "
                                         r"device; [\d.]+ GiB are free there"):
        with cached(str(folder), [files.dataset()]):
            raise AssertionError
    assert len(os.listdir(folder)) == 3 and not any(name.endswith(cache.PARTIAL) for name in os.listdir(folder))


def test_a_damaged_image_ends_the_building_with_its_name(files, folder):
    files.pairs[2][0].write_bytes(b"no image")
    with pytest.raises(DataError, match="a/2.png"):
        with cached(str(folder), [files.dataset()]):
            raise AssertionError


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs shared memory, which Linux has at /dev/shm")
class TestInMemory:
    @pytest.fixture(autouse=True)
    def own_folder(self, monkeypatch):
        """Not that of a training which this user may have under way."""
        self.folder = f"/dev/shm/paddleseg_encnet-test-{os.getpid()}"
        monkeypatch.setattr(cache, "folder_in_memory", lambda: self.folder)
        yield
        shutil.rmtree(self.folder, ignore_errors=True)

    def test_is_there_for_the_run(self, files, monkeypatch):
        anew = samples(files.dataset())
        with cached("ram", [files.dataset()]) as (dataset,), nothing_decoded(monkeypatch):
            assert os.stat(self.folder).st_mode & 0o777 == 0o700
            assert_equal(samples(dataset), anew)
        assert not os.path.exists(self.folder)

    def test_what_a_killed_run_left_goes(self, files):
        os.makedirs(self.folder, mode=0o700)
        open(os.path.join(self.folder, "left.array"), "w").close()
        with cached("ram", [files.dataset()]):
            assert len(os.listdir(self.folder)) == 12 and "left.array" not in os.listdir(self.folder)

    def test_the_last_of_the_ranks_removes_it(self, files):
        with cached("ram", [files.dataset()], 0, Ranks(0, 2)):
            with cached("ram", [files.dataset()], 0, Ranks(1, 2)):
                pass
            assert len(os.listdir(self.folder)) == 12
        assert not os.path.exists(self.folder)

    def test_goes_with_an_error(self, files):
        files.pairs[2][0].write_bytes(b"no image")
        with pytest.raises(DataError):
            with cached("ram", [files.dataset()]):
                raise AssertionError
        assert not os.path.exists(self.folder)

    def test_too_little_memory_is_refused_with_numbers(self, files, monkeypatch):
        monkeypatch.setattr(cache_room, "available", lambda: 10000)
        with pytest.raises(CacheError, match=r"about 0.00 GiB for 12 images and labels, and 0.00 GiB of memory are to "
                                             r"be had, 20% less than is free: name a folder on a disk, --cache DIR"):
            with cached("ram", [files.dataset()]):
                raise AssertionError
        assert not os.path.exists(self.folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 * 2 ** 20, 0, 9))
        monkeypatch.setattr(cache_room, "available", lambda: 2 ** 34)
        with pytest.raises(CacheError, match="of shared memory are free at /dev/shm, which its mount limits"):
            with cached("ram", [files.dataset()]):
                raise AssertionError


def test_no_shared_memory(monkeypatch):
    monkeypatch.setattr(cache_room, "SHARED_MEMORY", "/nowhere/shm")
    with pytest.raises(CacheError, match="--cache ram needs /nowhere/shm, which is not there: name a folder"):
        cache_room.folder_in_memory()


@pytest.mark.parametrize("limits, expected", [
    ({}, 8000 * 1024),
    ({"memory.max": "max", "memory.current": "5", "memory.stat": "inactive_file 2"}, 8000 * 1024),
    ({"memory.max": "6000000", "memory.current": "5000000", "memory.stat": "anon 1\ninactive_file 300000"}, 1300000),
    ({"memory.max": "6000000", "memory.current": "7000000", "memory.stat": "inactive_file 0"}, 0),
    ({"memory/memory.limit_in_bytes": "3000", "memory/memory.usage_in_bytes": "1000",
      "memory/memory.stat": "total_inactive_file 500"}, 2500),
    ({"memory/memory.limit_in_bytes": str(2 ** 63), "memory/memory.usage_in_bytes": "0",
      "memory/memory.stat": ""}, 8000 * 1024)], ids=["none", "max", "limited", "full", "cgroup 1", "cgroup 1, none"])
def test_memory_of_a_machine_and_of_a_container(tmp_path, limits, expected):
    meminfo, groups = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal:   16000 kB\nMemFree:      100 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n")
    for name, text in limits.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{text}\n")
    assert cache_room.available(str(meminfo), str(groups)) == expected


def test_a_folder_that_cannot_be_made(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cannot use .*file as a cache: (File exists|Not a directory)"):
        with cached(str(tmp_path / "file"), [files.dataset()]):
            raise AssertionError


def test_trainings_and_scores_are_those_without_a_cache(small_config, scenes, run_tool, tmp_path, monkeypatch):
    weights = []
    for run, flags in (("anew", []), ("cached", ["--cache", tmp_path / "cache", "--num_workers", 1])):
        run_tool("train", "--config", small_config, "--seed", 3, "--no_data_check", "--do_eval", "--save_dir",
                 tmp_path / run, *flags)
        weights.append((next((tmp_path / run).glob("iter_*")) / "model.pdparams").read_bytes())
    assert weights[0] == weights[1]
    kept = set(os.listdir(tmp_path / "cache"))
    assert len(kept) == 2 * (8 + 4)         # all training and validation scenes, and labels
    scores = []
    for flags in ([], ["--cache", tmp_path / "cache"]):
        with contextlib.ExitStack() as stack:
            if flags:
                stack.enter_context(nothing_decoded(monkeypatch))
            run_tool("val", "--config", small_config, "--model_path", next((tmp_path / "anew").glob("iter_*"))
                     / "model.pdparams", "--save_json", tmp_path / "scores.json", *flags)
        scores.append((tmp_path / "scores.json").read_text())
    assert scores[0] == scores[1] and set(os.listdir(tmp_path / "cache")) == kept
