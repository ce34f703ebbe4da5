"""Scores of any data set, whatever its batches and windows."""

import numpy as np
import paddle
import pytest
from counting import counted_slowly
from hypothesis import strategies as st
from paddleseg.transforms import Compose
from rules import rule, seeds, sides

from paddleseg_encnet.evaluation.evaluation_loop import evaluate


class OfPixels(paddle.nn.Layer):
    """A network that sees one pixel at a time: small whole numbers throughout, so that each sum is exact, and equal
    whatever is computed together."""
    output_names = ("segmentation",)

    def __init__(self, classes: int, seed: int):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, classes, 1)
        random = np.random.default_rng(seed)
        self.conv.weight.set_value(random.integers(-3, 4, (classes, 3, 1, 1)).astype("float32"))
        self.conv.bias.set_value(random.integers(-9, 10, classes).astype("float32"))

    def forward(self, images):
        return [self.conv(images)]


class Memory(paddle.io.Dataset):
    """Images uint8 [N, H, W, 3] and labels [N, H, W], as PaddleSeg's data sets hand them over."""
    mode, ignore_index, img_channels = "val", 255, 3

    def __init__(self, images, labels, classes: int):
        super().__init__()
        self.images, self.labels, self.num_classes = images, labels, classes
        self.transforms = Compose([])
        self.file_list = [[i, i] for i in range(len(images))]       # no paths: they are not read from files

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        data = self.transforms({"img": self.images[index].astype("float32"), "trans_info": []})
        return {**data, "label": self.labels[index][np.newaxis], "gt_fields": []}


@rule(count=st.integers(1, 5), size=st.tuples(sides(16), sides(16)), classes=st.integers(1, 6), seed=seeds(),
      batch=st.integers(2, 6), crop=st.tuples(st.integers(1, 20), st.integers(1, 20)), ignored=st.floats(0, 1))
def test_rule_scores_do_not_depend_on_batches_windows_or_flips(count, size, classes, seed, batch, crop, ignored):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    labels = random.integers(0, classes, (count, *size), dtype=np.uint8)
    labels[random.random(labels.shape) < ignored] = 255
    model, data = OfPixels(classes, seed), Memory(images, labels, classes)
    if (labels == 255).all():
        with pytest.raises(ValueError, match="no pixel has a label that counts"):
            evaluate(model, data)
        return
    expected = evaluate(model, data)
    weights, bias = model.conv.weight.numpy()[:, :, 0, 0].astype(int), model.conv.bias.numpy().astype(int)
    ids = (images[..., ::-1].astype(int) @ weights.T + bias).argmax(axis=-1)
    np.testing.assert_array_equal(expected.confusion, counted_slowly(labels, ids, classes, 255))
    stride = [max(1, side // 2) for side in crop]
    for options in ({"batch_size": batch}, {"is_slide": True, "crop_size": list(crop), "stride": stride},
                    {"aug_eval": True, "scales": 1.0, "flip_horizontal": True}):
        np.testing.assert_array_equal(evaluate(model, data, **options).confusion, expected.confusion, str(options))
