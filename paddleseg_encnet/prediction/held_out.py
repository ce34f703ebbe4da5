"""What an exported network scores on labelled images, as int8 is measured by before it is kept."""

from typing import Dict, List

import numpy as np

from paddleseg_encnet.deployment import int8
from paddleseg_encnet.deployment.deployed import Images
from paddleseg_encnet.deployment.runtimes import onnx_runtime
from paddleseg_encnet.evaluation.metrics import confusion_matrix, scores
from paddleseg_encnet.prediction.predictor import VALUE_OF_CLASS_0, label_of, labels_in_dataset
from paddleseg_encnet.runtime.cpu import cpu_count

MOST_IMAGES = 48


def labelled(builder, images: List[str]) -> Dict[str, str]:
    """{image: label} of those images that int8 is not calibrated on and that the config's data sets have a label of; of
    many some, spread evenly.

    Args:
        builder: PaddleSeg's, of the config.
    """
    calibrated = set(int8.calibrating(images))
    found = labels_in_dataset(builder, [image for image in images if image not in calibrated],
                              ("train_dataset", "val_dataset"))
    step = max(1, len(found) // MOST_IMAGES)
    return dict(list(found.items())[::step][:MOST_IMAGES])


def mean_iou(model: str, before: Images, labels: Dict[str, str], dataset: dict, classes: int) -> float:
    """0 to 1, of an ONNX file on these images.

    Args:
        before: what stands before and after the network.
        dataset: section `val_dataset` of the config.
    """
    run = onnx_runtime(model, "cpu", cpu_count())
    confusion = np.zeros([classes, classes], np.int64)
    for image, label in labels.items():
        prepared, history = before.prepare(image)
        output = run(before.batch(prepared))[0]
        ids = before.finish(output, history)
        truth = label_of(label, ids.shape, classes, VALUE_OF_CLASS_0.get(dataset.get("type"), 0),
                         dataset.get("ignore_index", 255))
        confusion += confusion_matrix(truth, ids, classes)
    return scores(confusion).mean_iou
