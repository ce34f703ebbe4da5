"""A folder and a video of 480 x 360 through tools/infer.py, in each exported form of the network in weights/.

python benchmarks/throughput.py

Ours: the next image is read and the last one written while the network computes, and OpenVINO computes several at once.
The peer, in the column "stock", is the same with --io_threads 0: one image after another. Both take turns in one
process, after the runtimes have warmed up. Memory is the peak of a process of its own, with 50 and with 200 images.
Forms whose packages are not installed are left out.
"""

import collections
import functools
import os
import pathlib
import subprocess
import sys
import tempfile

import measuring
import shipped
from measuring import Row

IMAGES, FEW, MANY = 24, 50, 200


def photographs(folder: str, count: int):
    """The street of docs/images, shifted by another width for each."""
    import cv2
    import numpy as np
    os.makedirs(folder)
    street = cv2.resize(cv2.imread(str(shipped.IMAGE)), (480, 360))
    for i in range(count):
        cv2.imwrite(os.path.join(folder, f"{i:03}.png"), np.roll(street, 2 * i, axis=1))


def film(path: str, images: list):
    """The images as a video."""
    import cv2
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 25, (480, 360))
    for image in images:
        writer.write(cv2.imread(image))
    writer.release()


def work(segmenter, images, threads: int, size: int, folder: str):
    """Reads, computes and writes all images, as tools/infer.py does."""
    from segrun import outputs

    def save(seen):
        outputs.save("palette", seen, os.path.join(folder, os.path.basename(seen.source)))
    return lambda: collections.deque(segmenter.flow(images, save, size, threads), 0)


def speed(folder: str) -> dict:
    """{form: (backend, precision, {how: seconds an image})}; how: a number of --io_threads, of a batch, or of a video.
    """
    from segrun import cpu
    from segrun.backends import forms_of
    from segrun.backends.exported import Exported
    from segrun.exports import Export
    from segrun.segmenter import Segmenter
    from segrun.video import predict_video
    export, out, video = Export(folder), os.path.join(folder, "out"), os.path.join(folder, "film.mp4")
    images = sorted(map(str, pathlib.Path(folder, str(MANY)).iterdir()))[:IMAGES]
    film(video, images)
    found = {}
    for form in forms_of(export.content):
        one, many = (Segmenter.of(Exported(export, form.backend, form.precision, "cpu", cpu.cpu_count(),
                                           throughput=throughput), confidence=False) for throughput in (False, True))
        works = {how: work(segmenter, images, threads, size, out)
                 for how, segmenter, threads, size in (("0", one, 0, 1), ("1", many, 1, 1), ("2", many, 2, 1),
                                                       ("batches of 4", many, 1, 4))}
        for threads, segmenter in ((0, one), (1, many)):
            works[f"video {threads}"] = functools.partial(predict_video, segmenter, video, out, threads=threads)
        best = measuring.interleaved(works, rounds=3, in_a_row=1)
        found[form.name] = form.backend, form.precision, {how: each / IMAGES for how, each in best.items()}
    return found


def memory(folder: str, backend: str, precision: str, count: int, threads: int) -> float:
    """Peak MiB of tools/infer.py."""
    flags = ["--backend", backend, "--precision", precision]
    process = subprocess.Popen(
        [sys.executable, shipped.ROOT / "tools" / "infer.py", "--config", os.path.join(folder, "deploy.yaml"),
         "--image_path", os.path.join(folder, str(count)), "--save_dir", os.path.join(folder, "out"), "--io_threads",
         str(threads), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)      # of this process, where getrusage has the largest of all
    if status:
        raise RuntimeError(f"tools/infer.py {' '.join(flags)} ended with {status}")
    return used.ru_maxrss / 1024


def measure(part: str, *given):
    if part == "export":
        shipped.exported(given[0])
        for count in (FEW, MANY):
            photographs(os.path.join(given[0], str(count)), count)
        return None
    return speed(given[0])


def rows():
    # This process imports no Paddle: its size would count as that of those it starts.
    with tempfile.TemporaryDirectory() as folder:
        measuring.child("throughput.py", "export", folder)
        found = measuring.child("throughput.py", "speed", folder)
        for name, (_, _, seconds) in found.items():
            others = ", ".join(f"{how} {1000 * seconds[how]:.1f} ms" for how in ("2", "batches of 4"))
            yield Row(f"Folder, {name}", "ms", 1000 * seconds["1"], 1000 * seconds["0"],
                      note=f"{1 / seconds['1']:.1f} images/s; stock: --io_threads 0; --io_threads {others}")
            yield Row(f"Video, {name}", "ms", 1000 * seconds["video 1"], 1000 * seconds["video 0"],
                      note=f"{1 / seconds['video 1']:.1f} frames/s, with overlay and codec")
        for name, (backend, precision, _) in found.items():
            few, many, alone = (memory(folder, backend, precision, count, threads)
                                for count, threads in ((FEW, 1), (MANY, 1), (MANY, 0)))
            yield Row(f"Folder, {name}, {MANY} images", "MiB", many, alone, note=f"{few:.0f} with {FEW} images; stock: "
                      "--io_threads 0")


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
