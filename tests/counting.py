"""A confusion matrix, counted one by one."""

import numpy as np


def counted_slowly(label, prediction, classes, ignored) -> np.ndarray:
    matrix = np.zeros([classes, classes], np.int64)
    for i, j in zip(label.flat, prediction.flat):
        if i != ignored:
            matrix[i, j] += 1
    return matrix
