"""labels.txt in the encodings that editors save; one that can't be read is named before the first step."""

import cv2
import numpy as np
import pytest

from paddleseg_encnet.data.class_names import classes_of
from segrun.errors import DataError

NAMES = ["道路", "Ölfleck", "car"]


def written(folder, text: str, encoding: str):
    (folder / "labels.txt").write_bytes(text.encode(encoding))
    return classes_of("Dataset", 3, str(folder)).names


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_names_without_the_mark_before_them(tmp_path, encoding, ends):
    assert written(tmp_path, ends.join(NAMES) + ends, encoding) == NAMES


@pytest.mark.parametrize("text, encoding", [("道路\n树\n车\n", "gbk"), ("a\nb\nc\n", "utf-16-le"),
                                            ("é\nb\nc\n", "latin-1"), ("道路\n街\n車\n", "shift_jis")])
def test_another_encoding_is_named(tmp_path, text, encoding):
    words = "the list of class names .*labels.txt is no text in UTF-8 .*; save it as UTF-8"
    with pytest.raises(DataError, match=words):
        written(tmp_path, text, encoding)


@pytest.mark.parametrize("tool, more", [
    ("train", ["--do_eval"]), ("train", ["--do_eval", "--no_data_check"]), ("predict", ["--image_path", "IMAGE"]),
    ("export", [])])
def test_each_tool_names_it_before_it_works(tool, more, tmp_path, error_of, small_weights, image, said):
    for split in ("train", "val"):
        (tmp_path / f"{split}.txt").write_text("a.png l.png\n")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros([64, 64, 3], np.uint8))
    cv2.imwrite(str(tmp_path / "l.png"), np.arange(64 * 64).reshape(64, 64) % 3)
    (tmp_path / "labels.txt").write_bytes("道路\n树\n车\n".encode("gbk"))
    (tmp_path / "c.yml").write_text(f"""
batch_size: 1
iters: 1
train_dataset: {{type: Dataset, dataset_root: {tmp_path}, train_path: {tmp_path}/train.txt, num_classes: 3, mode: train,
  transforms: [{{type: Normalize}}]}}
val_dataset: {{type: Dataset, dataset_root: {tmp_path}, val_path: {tmp_path}/val.txt, num_classes: 3, mode: val,
  transforms: [{{type: Normalize}}]}}
optimizer: {{type: SGD}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.01}}
loss: {{types: [{{type: CrossEntropyLoss}}], coef: [1]}}
model: {{type: FCN, num_classes: 3, backbone: {{type: ResNet18_vd, output_stride: 16}}, backbone_indices: [3]}}
""")
    more = [str(image) if word == "IMAGE" else word for word in more]
    weights = [] if tool == "train" else ["--model_path", small_weights]
    error = error_of(tool, "--config", tmp_path / "c.yml", *weights, "--save_dir", tmp_path / "out", *more)
    assert "labels.txt is no text in UTF-8" in error
    assert not (tmp_path / "out").exists() and not any("iter: " in line for line in said)
