"""Any labels and predictions, windows and batches: what is counted."""

import numpy as np
import paddle
import pytest
from hypothesis import strategies as st
from paddleseg.core import infer
from paddleseg.transforms import Compose
from rules import rule, seeds, sides

from paddleseg_encnet.evaluation.loop import evaluate
from segrun import tiling as sliding
from segrun.scoring import confusion_matrix, scores


def counted_slowly(label, prediction, classes, ignored) -> np.ndarray:
    matrix = np.zeros([classes, classes], np.int64)
    for i, j in zip(label.flat, prediction.flat):
        if i != ignored:
            matrix[i, j] += 1
    return matrix


@rule(classes=st.sampled_from([1, 2, 5, 19, 150, 255, 256, 300]), ignored=st.sampled_from([255, 0, -1, 7, 999]),
      size=st.tuples(sides(20), sides(20)), dtype=st.sampled_from(["uint8", "int32", "int64"]), seed=seeds(),
      wrong=st.sampled_from(["", "", "", "label", "prediction"]))
def test_rule_counts_are_those_of_a_slow_loop(classes, ignored, size, dtype, seed, wrong):
    random = np.random.default_rng(seed)
    if dtype == "uint8":
        classes, ignored = min(classes, 250), ignored % 256
    label, prediction = random.integers(0, classes, (2, *size)).astype(dtype)
    label = np.where(random.random(size) < random.random(), np.array(ignored).astype(dtype), label)
    # A network may say what it likes where nobody asks.
    prediction = np.where((label == ignored) & (random.random(size) < 0.5), np.array(200).astype(dtype), prediction)
    place = tuple(random.integers(0, side) for side in size)
    if wrong and (label[place] != ignored or wrong == "label"):
        values, prediction[place] = label if wrong == "label" else prediction, 0
        values[place] = next(value for value in (classes, classes + 1) if value != ignored)
        if wrong == "label" and values[place] >= classes or wrong == "prediction":
            with pytest.raises(ValueError, match=f"{wrong} values from .* with {classes} classes"):
                confusion_matrix(label, prediction, classes, ignored)
            return
    matrix = confusion_matrix(label, prediction, classes, ignored)
    np.testing.assert_array_equal(matrix, counted_slowly(label, prediction, classes, ignored))
    # Sums: whatever is not ignored; of the parts, the whole.
    assert matrix.sum() == (label != ignored).sum()
    parts = sum(confusion_matrix(label[rows], prediction[rows], classes, ignored)
                for rows in (slice(0, size[0] // 2), slice(size[0] // 2, None)))
    np.testing.assert_array_equal(parts, matrix)


@rule(classes=st.integers(1, 12), seed=seeds(), most=st.sampled_from([1, 3, 1000, 10 ** 12]), gaps=st.floats(0, 1))
def test_rule_scores_are_what_they_are_called(classes, seed, most, gaps):
    random = np.random.default_rng(seed)
    matrix = random.integers(0, most + 1, (classes, classes)) * (random.random((classes, classes)) >= gaps)
    if matrix.sum() == 0:
        with pytest.raises(ValueError, match="no pixel has a label that counts"):
            scores(matrix)
        return
    found = scores(matrix)
    for name in ("class_iou", "class_accuracy", "class_precision", "class_f1", "class_share"):
        values = getattr(found, name)
        assert values.shape == (classes,) and ((values >= 0) & (values <= 1) | np.isnan(values)).all()
    for value in (found.mean_iou, found.accuracy, found.frequency_weighted_iou, found.mean_dice, found.mean_accuracy):
        assert 0 <= value <= 1
    assert -1 <= found.kappa <= 1
    assert abs(found.class_share.sum() - 1) < 1e-9
    absent = (matrix.sum(0) == 0) & (matrix.sum(1) == 0)
    np.testing.assert_array_equal(np.isnan(found.class_iou), absent)
    # Counted twice as often it is the same; with the classes in another order, too.
    order = random.permutation(classes)
    for other in (scores(2 * matrix), scores(matrix[order][:, order])):
        for name in ("mean_iou", "accuracy", "kappa", "mean_dice", "frequency_weighted_iou", "mean_accuracy"):
            assert abs(getattr(other, name) - getattr(found, name)) < 1e-9, name


@rule(size=st.tuples(sides(50), sides(50)), crop=st.tuples(sides(60), sides(60)), seed=seeds(),
      part=st.tuples(st.floats(0, 1), st.floats(0, 1)), deep=st.integers(1, 4))
def test_rule_windows_are_means_of_all_that_show_a_pixel(size, crop, seed, part, deep):
    """`strips` against sums over the whole image, each pixel divided by how often it was seen."""
    stride = tuple(max(1, round(share * side)) for share, side in zip(part, crop))
    (height, width), random = size, np.random.default_rng(seed)
    image = random.normal(size=(deep, height, width)).astype("float32")
    sums, counts = np.zeros((deep, height, width)), np.zeros((height, width))

    def logits_of(top, bottom, left, right):
        assert 0 <= top < bottom <= height and 0 <= left < right <= width
        seen = image[:, top:bottom, left:right] * np.float32(top + 2 * left + 1)      # depends on the window
        sums[:, top:bottom, left:right] += seen
        counts[top:bottom, left:right] += 1
        return np.pad(seen, [(0, 0), (0, 1), (0, 2)])       # more than asked for, as networks that round up give

    rows, found = [], []
    for first, logits in sliding.strips(logits_of, size, crop, stride):
        rows += range(first, first + logits.shape[1])
        found.append(logits.copy())
    assert rows == list(range(height)) and counts.min() > 0
    np.testing.assert_allclose(np.concatenate(found, axis=1), sums / counts, rtol=1e-12, atol=1e-9)


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


@rule(size=st.tuples(sides(20), sides(20)), more=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=seeds())
def test_rule_one_window_is_the_whole(size, more, seed):
    """A window that holds the image gives its logits to the last bit, whatever the network sees."""
    random = np.random.default_rng(seed)
    images = paddle.to_tensor(random.normal(size=(1, 3, *size)).astype("float32"))
    model = paddle.nn.Conv2D(3, 4, 3, padding=1)

    def network(x):
        return [model(x)]

    crop = [size[1] + more[1], size[0] + more[0]]
    with paddle.no_grad():
        whole = network(images)[0].numpy()
        strips = [logits.copy() for _, logits in sliding.strips(
            lambda top, bottom, left, right: network(images[:, :, top:bottom, left:right])[0][0].numpy(), size, crop,
            crop)]
        stock = infer.slide_inference(network, images, crop, crop).numpy()
    np.testing.assert_array_equal(np.concatenate(strips, axis=1), whole[0])
    np.testing.assert_array_equal(stock, whole)
