"""Peak memory of predicting a large image with windows that slide: ours against PaddleSeg's.

python benchmarks/huge_images.py

The network is a single convolution with 11 classes, so that what is measured is the memory of the windows and their
sums; windows of 512 x 512 every 384 pixels. The last row is ours alone: PaddleSeg's would need eight times the
memory of the row before.
"""

import hashlib
import time

import measuring
from measuring import Row


def measure(which: str, width: str, height: str) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import numpy as np
    import paddle
    from paddleseg.core import infer
    from paddleseg.transforms import Compose, Normalize

    from paddleseg_encnet.live import LiveNetwork
    from segrun.classes import Classes
    from segrun.segmenter import Segmenter
    from segrun.tiling import Tiling
    paddle.set_device("cpu")
    paddle.seed(1)
    network = paddle.nn.Conv2D(3, 11, 3, padding=1)

    class Model(paddle.nn.Layer):
        def forward(self, images):
            return [network(images)]

    tile = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    image = np.tile(tile, (int(height) // 500, int(width) // 500, 1))
    crop_size, stride = (512, 512), (384, 384)
    start, before = time.perf_counter(), measuring.resident()
    if which == "ours":
        live = LiveNetwork(Model(), Compose([Normalize()]), Classes([f"class {i}" for i in range(11)]))
        ids = Segmenter.of(live, Tiling(crop_size, stride), confidence=False).segment(image).ids
    else:
        data = Compose([Normalize()])({"img": image.astype("float32")})
        with paddle.no_grad():
            ids, _ = infer.inference(Model(), paddle.to_tensor(data["img"][None]), trans_info=[], is_slide=True,
                                     crop_size=crop_size, stride=stride)
        ids = ids.numpy()[0, 0].astype("uint8")
    return {"seconds": time.perf_counter() - start, "memory": (measuring.peak() - before) / 2 ** 20,
            "ids": hashlib.md5(ids.tobytes()).hexdigest()}


def rows():
    for width, height, compared in ((2000, 1000, True), (5000, 5000, True), (20000, 10000, False)):
        ours = measuring.child("huge_images.py", "ours", width, height)
        stock = measuring.child("huge_images.py", "stock", width, height) if compared else None
        note = f"{width} x {height}, 11 classes; {ours['seconds']:.0f} s"
        if stock:
            note += f", stock {stock['seconds']:.0f} s" + ("" if ours["ids"] == stock["ids"] else ": CLASSES DIFFER")
        yield Row("Sliding windows, peak memory beyond the image", "MiB", ours["memory"], stock and stock["memory"],
                  note=note)


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
