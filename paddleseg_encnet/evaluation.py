"""One pass over a data set: how good is the model on it?"""

import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.utils import logger

from paddleseg_encnet.datasets import Loader, class_names
from paddleseg_encnet.devices import Precision, Ranks
from paddleseg_encnet.metrics import Scores, confusion_matrix, scores
from paddleseg_encnet.progress import Progress


def evaluate(model: paddle.nn.Layer, dataset: paddle.io.Dataset, precision: Precision = None, num_workers: int = 0,
             aug_eval: bool = False, **inference) -> Scores:
    """Scores of `model` on `dataset`, the same for any number of ranks. The model is left in evaluation mode.

    Args:
        dataset: PaddleSeg dataset in mode "val".
        precision: float32 if None.
        num_workers: processes that read data; 0 reads in this one.
        aug_eval: average over `scales`, `flip_horizontal`, `flip_vertical`.
        inference: what paddleseg.core.infer takes: `is_slide`, `crop_size`, `stride`, and with `aug_eval` those above.

    Raises:
        DataError: a sample can't be read or its label doesn't fit.
        ValueError: the set is empty or has no pixel that counts.
    """
    matrix = count_pixels(model, dataset, precision, num_workers, aug_eval, **inference)
    result = scores(matrix)
    report(result, len(dataset), class_names(dataset))
    return result


def count_pixels(model: paddle.nn.Layer, dataset: paddle.io.Dataset, precision: Precision = None, num_workers: int = 0,
                 aug_eval: bool = False, **inference) -> np.ndarray:
    """The confusion matrix [C, C] that evaluate() takes its scores from, over the whole set on every rank."""
    if len(dataset) == 0:
        raise ValueError("the validation set is empty")
    precision, ranks = precision or Precision(), Ranks.join()
    predict = infer.aug_inference if aug_eval else infer.inference
    # Each rank takes every count-th image, so that none is counted twice whatever their number; it may get none.
    own = range(ranks.rank, len(dataset), ranks.count)
    loader = Loader(dataset, num_workers=num_workers, batch_sampler=[[index] for index in own])
    matrix = np.zeros([dataset.num_classes] * 2, dtype=np.int64)

    logger.info(f"Start evaluating (total_samples: {len(dataset)})...")
    model.eval()
    progress = Progress(len(own), "images", visible=ranks.first)
    with paddle.no_grad():
        for data in loader:
            with precision.context():
                prediction, _ = predict(model, data["img"], trans_info=data["trans_info"], **inference)
            matrix += confusion_matrix(data["label"].numpy(), prediction.numpy(), dataset.num_classes,
                                       dataset.ignore_index)
            progress.advance()
    progress.close()
    ranks.meet()
    return ranks.sum(matrix)


def report(result: Scores, images: int, names):
    """Prints the scores as PaddleSeg does, with a line for each class by name."""
    logger.info(f"[EVAL] #Images: {images} mIoU: {result.mean_iou:.4f} Acc: {result.accuracy:.4f} "
                f"Kappa: {result.kappa:.4f} Dice: {result.mean_dice:.4f}")
    width = max(len(name) for name in names)
    lines = [f"{'class':{width}}     IoU  precision  recall"]
    for row in zip(names, result.class_iou, result.class_precision, result.class_accuracy):
        name, *values = row
        iou, precision, recall = ("   -  " if np.isnan(value) else f"{value:.4f}" for value in values)
        lines.append(f"{name:{width}}  {iou}     {precision}  {recall}")
    absent = int(np.isnan(result.class_iou).sum())
    if absent:
        lines.append(f"{absent} of {len(names)} classes occur neither in labels nor in predictions; "
                     "mIoU and Dice are means over the others")
    logger.info("[EVAL] by class:\n" + "\n".join(lines))
