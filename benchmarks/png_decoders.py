"""PNGs read by what pip installs, against OpenCV, and whether all of them see the same pixels.

pip install imagecodecs pyspng-seunglab; python benchmarks/png_decoders.py

The images are the training images and labels of CAMVID_ROOT, 40 of them, and drawn street scenes of 2048 x 1024. One
thread, whose CPU time is measured; decoders take turns, and the fastest of all repeats counts. Who is not installed is
left out.
"""

import glob
import importlib
import io
import os
import tempfile
import time

import measuring
from measuring import Row

IMAGES, REPEATS = 40, 5


def decoders() -> dict:
    """{name: bytes of a file -> pixels, red first}; OpenCV comes first."""
    import cv2
    import numpy as np
    from PIL import Image
    cv2.setNumThreads(1)

    def by_opencv(data):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    found = {f"OpenCV {cv2.__version__}": by_opencv, "Pillow": lambda data: np.array(Image.open(io.BytesIO(data)))}
    for name, module, function in (
            ("imagecodecs, libpng", "imagecodecs", "png_decode"),
            ("imagecodecs, libspng", "imagecodecs", "spng_decode"),
            ("pyspng", "pyspng", "load")):
        try:
            found[name] = getattr(importlib.import_module(module), function)
        except ImportError:
            continue
    return found


def measure(*files) -> dict:
    """Milliseconds a file by decoder, and whether its pixels are OpenCV's, in all files."""
    import numpy as np
    contents = [open(file, "rb").read() for file in files]
    best, same, contestants = {}, {}, decoders()
    for _ in range(REPEATS):
        for index, data in enumerate(contents):
            first = None
            for name, decode in contestants.items():
                start = time.thread_time()
                pixels = decode(data)
                seconds = time.thread_time() - start
                best[name, index] = min(seconds, best.get((name, index), seconds))
                pixels = np.squeeze(pixels)
                first = pixels if first is None else first
                same[name] = same.get(name, True) and np.array_equal(pixels, first)
    return {name: [sum(1000 * best[name, index] for index in range(len(files))) / len(files), same[name]]
            for name in same}


def rows():
    with tempfile.TemporaryDirectory() as folder:
        from paddleseg_encnet import scenes
        scenes.generate(folder, train=8, val=1, size=(2048, 1024))
        sets = {"scenes": os.path.join(folder, "leftImg8bit", "train", "*", "*.png"),
                "their labels": os.path.join(folder, "gtFine", "train", "*", "*.png")}
        if "CAMVID_ROOT" in os.environ:
            sets.update({"CamVid": os.path.join(os.environ["CAMVID_ROOT"], "train", "*.png"),
                         "its labels": os.path.join(os.environ["CAMVID_ROOT"], "trainannot", "*.png")})
        for what, pattern in sets.items():
            result = measuring.child("png_decoders.py", *sorted(glob.glob(pattern))[:IMAGES])
            opencv, _ = next(iter(result.values()))
            for name, (milliseconds, same) in result.items():
                yield Row(f"{what}: {name}", "ms", milliseconds, floor=opencv,
                          note="floor: OpenCV; " + ("the same pixels" if same else "OTHER PIXELS"))


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
