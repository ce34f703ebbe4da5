"""Scores of weights by what a config names: what tools/val.py does, in one function."""

import os
from typing import Any, Optional, Sequence, Union

from paddleseg.utils import logger, utils

from paddleseg_encnet.config import building
from paddleseg_encnet.data.cache import cached
from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.evaluation import confusion, score_report
from paddleseg_encnet.evaluation.evaluation_loop import evaluate
from paddleseg_encnet.runtime.devices import Precision, Ranks, select_device
from paddleseg_encnet.weights import checkpoint
from segrun.errors import unwrapped
from segrun.own_files import check_outputs, write_own
from segrun.scoring import Scores


@unwrapped
def score(config: Union[str, os.PathLike], model_path: Union[str, os.PathLike], *, device: Optional[str] = None,
          num_workers: int = 0, opts: Optional[Sequence[str]] = None, data_format: str = "NCHW",
          save_json: Optional[str] = None, save_csv: Optional[str] = None, save_confusion: Optional[str] = None,
          cache: Union[str, os.PathLike, None] = None, precision: str = "fp32", **inference: Any) -> Scores:
    """Evaluates weights on the config's validation set. The arguments are the flags of tools/val.py, by their names,
    and what is logged and written is what that logs and writes.

    Args:
        config: as the tools' --config takes it.
        model_path: file of weights.
        device: "cpu", "gpu", ..., which becomes Paddle's; the GPU if there is one when it is None.
        num_workers: processes that read data; 0 reads in this one.
        opts: keys of the config to set, ["KEY=VALUE", ...].
        cache: folder to keep decoded images and labels in, or "ram" (data/cache.py).
        save_json, save_csv, save_confusion: files to write all scores, those of each class, a picture into.
        precision: "fp32", or "fp16", which is mixed precision of level O1, on a GPU.
        inference: is_slide, crop_size, stride, aug_eval, scales, flip_horizontal, flip_vertical.

    Raises:
        ValueError, OSError: config, weights or data are missing or wrong (CheckpointError, DataError, ...), or a file
            can't be written, which is found out before anything is evaluated.
        TypeError: there is no such argument.
    """
    config, arithmetic = os.fspath(config), Precision(precision)
    builder = building.read_config(config, opts, data_format=data_format, pretrained=False)
    options = builder.tiling(inference).options()
    utils.show_env_info()
    utils.show_cfg_info(builder.config)
    select_device(device)
    ranks = Ranks.join()
    paths = {kind: os.fspath(path) for kind, path in (("json", save_json), ("csv", save_csv),
                                                      ("confusion", save_confusion)) if path}
    if ranks.first:     # an evaluation may take an hour: what can't be written is said before
        if "confusion" in paths:
            confusion.check_picture(paths["confusion"])
        check_outputs(paths.values(), [config, os.fspath(model_path)])
    dataset, model = builder.val_dataset, builder.model
    checkpoint.fill_layer(model, os.fspath(model_path))
    logger.info(f"Loaded {model_path}")
    with cached(os.fspath(cache) if cache else None, [dataset], num_workers, ranks) as (dataset,):
        scores = evaluate(model, dataset, arithmetic, num_workers=num_workers, **options)
    if ranks.first:
        save_scores(paths, scores, class_names(dataset), {"config": config, "model_path": os.fspath(model_path),
                                                          "inference": options, "images": len(dataset)})
    return scores


def save_scores(paths: dict, scores: Scores, names: list, about: dict) -> None:
    """Writes the files: paths by "json", "csv", "confusion"."""
    writers = {"json": lambda path: score_report.write_json(path, scores, names, about),
               "csv": lambda path: score_report.write_class_csv(path, scores, names),
               "confusion": lambda path: confusion.draw_confusion(path, scores.confusion, names)}
    for kind, path in paths.items():
        write_own(path, writers[kind])
    for path in paths.values():
        logger.info(f"Wrote {path}")
