"""What an exported network scores on labelled images, as int8 is measured by before it is kept."""

from typing import Dict, List

from paddleseg.cvlibs import Config, SegBuilder

from paddleseg_encnet.data.label_files import label_of_config, labels_in_dataset
from paddleseg_encnet.deployment import int8
from segrun import cpu
from segrun.backends.exported import Exported
from segrun.backends.onnx_runtime import OnnxRuntime
from segrun.exports import Export
from segrun.scoring import score_network
from segrun.segmenter import Segmenter

MOST_IMAGES = 48


def labelled_images(builder: SegBuilder, images: List[str]) -> Dict[str, str]:
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


def mean_iou(model: str, export: Export, labels: Dict[str, str], config: Config) -> float:
    """0 to 1, of an ONNX file on these images.

    Args:
        export: what stands before and after the network.
        config: of the data set.
    """
    network = Exported.of(export, OnnxRuntime(model, "cpu", cpu.cpu_count()))
    count = len(export.classes.names)
    return score_network(Segmenter.of(network, confidence=False), labels,
                         lambda path, size: label_of_config(path, size, count, config)).mean_iou
