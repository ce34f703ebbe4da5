"""A label as large as the images that are read: Pillow's own limit, of 13377 x 13377, is smaller than OpenCV's."""

import os
import subprocess
import sys

from conftest import ROOT

CODE = """
import sys, zlib, struct
import numpy as np
from paddleseg_encnet.data.looking import check_headers
from paddleseg_encnet.data.reading import check_mask, read_image, read_label
side = 14000
def png(path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1) + bytes([1]) * side) for _ in range(side)) + packer.flush()
    with open(path, "wb") as file:
        file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                   + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
path = sys.argv[1]
png(path)
label = read_label(path)
assert label.shape == (side, side) and label.dtype == np.uint8 and label.min() == label.max() == 1
check_mask(label, read_image(path, 1).shape, path)
check_headers(path, path, 1)
print("read")
"""


def test_a_label_is_read_as_the_image_of_its_size_is(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_IO_MAX")}
    done = subprocess.run([sys.executable, "-c", CODE, tmp_path / "x.png"], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["read"] and "DecompressionBomb" not in done.stderr, done.stderr[-500:]
