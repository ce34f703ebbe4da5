"""What is done to an image before an export is what PaddleSeg does, and is undone behind it."""

import cv2
import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import manager
from paddleseg.transforms import Compose

from segrun import preprocess
from segrun.exports import Export, write_deploy
from segrun.image import read_file

TRANSFORMS = [
    [{"type": "Normalize"}],
    [{"type": "Resize", "target_size": [96, 64]},
     {"type": "Normalize", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}],
    [{"type": "Resize", "target_size": [90, 90], "keep_ratio": True, "size_divisor": 8, "interp": "CUBIC"}],
    [{"type": "ResizeByLong", "long_size": 77}], [{"type": "ResizeByShort", "short_size": 50, "max_size": 90}],
    [{"type": "LimitLong", "max_long": 60}], [{"type": "LimitLong", "min_long": 200}],
    [{"type": "Normalize"}, {"type": "Padding", "target_size": [140, 80]}],
]


@pytest.mark.parametrize("transforms", TRANSFORMS, ids=lambda transforms: "-".join(t["type"] for t in transforms))
def test_images_are_prepared_as_paddleseg_does(transforms, image):
    steps = preprocess.Preprocess(transforms, 3, "deploy.yaml")
    found, undo = steps(read_file(str(image)), str(image))
    stock = Compose([manager.TRANSFORMS[t["type"]](**{k: v for k, v in t.items() if k != "type"}) for t in transforms])
    expected = stock({"img": str(image)})["img"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    size = cv2.imread(str(image)).shape[:2]
    for outputs in ([1], [1, 19]):      # class ids, scores
        restored = preprocess.restore(np.zeros([*outputs, *found.shape[1:]], "int32" if outputs == [1] else "float32"),
                                      undo, preprocess.resize_arrays)
        assert restored.shape == (*outputs, *size)
    assert steps.pixelwise == ([each["type"] for each in transforms] == ["Normalize"])


def test_resized_arrays_are_as_the_live_networks():
    """Images and scores bilinearly, to rounding; class ids take the nearest; what has the size is left as it is."""
    scores = np.random.RandomState(0).uniform(-1, 1, [2, 5, 9, 14]).astype("float32")
    for size in ((18, 28), (5, 7), (9, 15)):
        expected = paddle.nn.functional.interpolate(paddle.to_tensor(scores), list(size), mode="bilinear").numpy()
        np.testing.assert_allclose(preprocess.resize_arrays(scores, size), expected, atol=1e-5)
    assert preprocess.resize_arrays(scores, (9, 14)) is scores
    ids = np.random.RandomState(0).randint(0, 70_000, [2, 9, 14]).astype("int32")
    np.testing.assert_array_equal(preprocess.resize_arrays(ids, (18, 28)), ids.repeat(2, axis=1).repeat(2, axis=2))


def test_an_image_of_another_size_than_the_export_is_for(image, tmp_path):
    write_deploy(str(tmp_path / "deploy.yaml"), {"transforms": [{"type": "Normalize"}], "input_shape": [1, 3, 32, 32]})
    export = Export(str(tmp_path))
    with pytest.raises(ValueError, match=r"comes to the network as 128 x 64, but that was exported for 32 x 32 \(w"):
        export.batch_of(str(image))
