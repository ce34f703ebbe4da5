"""One pass over a data set: how good is the model on it?"""

import copy
from typing import Any, Dict, Optional

import numpy as np
import paddle
from paddleseg.utils import logger

from paddleseg_encnet.data.class_names import class_names, classes_of_dataset
from paddleseg_encnet.data.samples import Loader
from paddleseg_encnet.evaluation import codebook_use, score_report
from paddleseg_encnet.live import LiveNetwork, Tensor, as_tensor, undo_of
from paddleseg_encnet.models.losses import has_own_rule, loss_names, losses_by_position
from paddleseg_encnet.models.presence import has_branch
from paddleseg_encnet.runtime.devices import Precision, Ranks
from segrun.commands import command
from segrun.errors import DataError
from segrun.progress import Progress
from segrun.scoring import Scores, confusion_matrix, presence_scores, scores
from segrun.segmenter import Segmenter
from segrun.tiling import asked_for


def evaluate(model: paddle.nn.Layer, dataset: paddle.io.Dataset, precision: Optional[Precision] = None,
             num_workers: int = 0,
             losses: Optional[dict] = None, batch_size: int = 1, **inference: Any) -> Scores:
    """Scores of `model` on `dataset`, the same for any number of ranks. The model is left in evaluation mode.

    Args:
        dataset: PaddleSeg dataset with labels, of any split.
        precision: float32 if None.
        num_workers: processes that read data; 0 reads in this one.
        losses: those of the training, {"types": [loss, ...], "coef": [factor, ...]}. Then the scores have the weighted
            losses too, each the mean over the images of that image's, under the names of the training: that of the
            segmentation and, where the network predicts presence, that of the SE branch. The other outputs are there
            only in training. A network with a rule of its own for its losses has none.
        batch_size: images at a time. More than 1 is for images of one size that no transform resizes: PaddleSeg's
            inference undoes that for one image.
        inference: `is_slide` with `crop_size` and `stride`; `aug_eval` with `scales`, `flip_horizontal`,
            `flip_vertical`, over which is averaged.

    Raises:
        DataError: an image has no label, a sample can't be read or its label doesn't fit.
        ValueError: the set is empty or has no pixel that counts.
    """
    dataset = with_untouched_labels(dataset)
    ranks = Ranks.join()
    network = LiveNetwork(model, getattr(dataset, "transforms", None), classes_of_dataset(dataset), precision=precision)
    segmenter = Segmenter.of(network, asked_for(inference))
    # Each rank takes every count-th image, so that none is counted twice whatever their number; it may get none.
    own = range(ranks.rank, len(dataset), ranks.count)
    batches = [own[start:start + batch_size] for start in range(0, len(own), batch_size)]
    loader = Loader(dataset, num_workers=num_workers, batch_sampler=batches)
    classes, terms = dataset.num_classes, evaluated_terms(model, losses)
    confusion = np.zeros([classes, classes], dtype=np.int64)
    # Of each image the classes in its label, its presence logits, its losses. Rows of other ranks stay 0.
    rows = np.zeros([len(dataset), 2 * classes + len(terms)], dtype=np.float32)

    model.eval()
    logger.info(f"Start evaluating (total_samples: {len(dataset)})...")
    progress = Progress(len(own), "images", visible=ranks.first)
    with paddle.no_grad(), codebook_use.codebook_statistics(model) as statistics:
        for data, batch in zip(loader, batches):     # asked for one more, the loader ends its processes
            logits, presence = segmenter.infer(data["img"], undo_of(data["trans_info"]))
            prediction = np.asarray(logits.argmax(axis=1))
            presence = np.zeros([len(batch), classes], np.float32) if presence is None else presence
            for i, index in enumerate(batch):
                label, outputs = data["label"][i:i + 1], (logits[i:i + 1], presence[i:i + 1])
                counts = confusion_matrix(label.numpy(), prediction[i], classes, dataset.ignore_index)
                confusion += counts
                values = [loss_of(term, output, label) for term, output in zip(terms.values(), outputs)]
                rows[index] = np.concatenate([counts.any(axis=1), presence[i], values])
                progress.advance()
    progress.close()
    ranks.meet()
    confusion, rows = ranks.sum(confusion), ranks.sum(rows)
    present, presence, values = np.split(rows, [classes, 2 * classes], axis=1)
    result = scores(confusion, presence_scores(present, presence) if has_branch(model) else None,
                    dict(zip(terms, values.mean(axis=0, dtype=np.float64).tolist())),
                    codebook_use.use_over_ranks(statistics, ranks))
    logger.info(score_report.line(result, len(dataset)))
    logger.info("[EVAL] by class:\n" + score_report.class_table(result, class_names(dataset)))
    return result


def with_untouched_labels(dataset: paddle.io.Dataset) -> paddle.io.Dataset:
    """The data set with its labels as they are in the files; in other modes than "val" PaddleSeg transforms them with
    the images.

    Raises:
        DataError, ValueError: an image has no label; there is no image.
    """
    if len(dataset) == 0:
        raise ValueError("the validation set is empty")
    missing = [files[0] for files in dataset.file_list if files[1] is None]
    if missing:
        raise DataError(f"{len(missing)} of {len(dataset)} images have no label, the first one {missing[0]}; there is "
                        f"nothing to score. Is val_dataset a test split? {command('predict')} needs no labels")
    if getattr(dataset, "mode", "val") != "val":
        dataset = copy.copy(dataset)
        dataset.mode = "val"
    return dataset


def evaluated_terms(model: paddle.nn.Layer, losses: Optional[dict] = None) -> Dict[str, dict]:
    """The terms of a training's losses that an evaluation can tell, by name, each in the form of the whole."""
    if losses is None or has_own_rule(model):
        return {}
    names = loss_names(model, len(losses["types"]))
    told = [names[0]] + ["SE"] * has_branch(model)
    return {name: {"types": [loss], "coef": [coef]}
            for name, loss, coef in zip(names, losses["types"], losses["coef"]) if name in told}


def loss_of(term: dict, output: Tensor, label: paddle.Tensor) -> float:
    """The weighted loss of one image: logits [1, C, H, W] or presence logits [1, C], label [1, 1, H, W]."""
    output = as_tensor(output).astype("float32")
    if getattr(term["types"][0], "data_format", "NCHW") == "NHWC":      # the inference gives NCHW
        output = output.transpose([0, 2, 3, 1])
    return float(sum(losses_by_position([output], {"label": label.reshape([1, *label.shape[-2:]])}, term)))
