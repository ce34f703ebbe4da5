"""Label files as class ids, however their data set counts."""

import cv2
import numpy as np

from paddleseg_encnet.data.label_files import label_of


def test_labels_as_the_data_sets_have_them(tmp_path):
    path = str(tmp_path / "x.png")
    cv2.imwrite(path, np.array([[0, 1, 5, 6, 255]], np.uint8))
    assert label_of(path, (1, 5), 5, 0, 255).tolist() == [[0, 1, 255, 255, 255]]    # CamVid's void is 11
    assert label_of(path, (1, 5), 5, 1, 255).tolist() == [[255, 0, 4, 255, 255]]    # ADE20K counts from 1
    assert label_of(path, (1, 5), 5, 0, 1).tolist() == [[0, 255, 255, 255, 255]]
