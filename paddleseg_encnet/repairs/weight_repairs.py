"""Pretrained weights that do not fit, or that run what is in them."""

import inspect
from typing import Any, Optional


def misfit_is_only_warned_of() -> bool:
    from paddleseg.utils import utils
    return "is not in pretrained model" in inspect.getsource(utils.load_pretrained_model)


def pretrained_weights() -> None:
    """Symptom: `pretrained:` weights that do not fit are skipped with warnings, and training starts from random
    numbers; a file from elsewhere runs whatever code it holds; half a download is taken for a whole one.
    Cause: load_pretrained_model warns instead of stopping, and reads with paddle.load, which unpickles; the downloader
    does not look at lengths.
    Detected: its source has that warning (a trial run would print it at every import).
    """
    from paddleseg.utils import logger, utils

    from paddleseg_encnet.weights import checkpoint, packages

    def load_pretrained_model(model: Any, pretrained_model: Optional[str]) -> None:
        """Fills the whole of `model` from a path, a URL or pip:PACKAGE, or raises CheckpointError. For a backbone the
        file may hold more, such as the classifier that it was trained with on ImageNet."""
        name = type(model).__name__
        if pretrained_model is None:
            logger.info(f"No pretrained model to load, {name} will be trained from scratch.")
            return
        logger.info(f"Loading pretrained model from {pretrained_model}")
        is_backbone = hasattr(model, "feat_channels") and not hasattr(model, "backbone")
        tensors = packages.pretrained_tensors(pretrained_model)
        report = checkpoint.fill_layer(model, tensors, ignore_extra=("",) if is_backbone else (),
                                       where=pretrained_model)
        logger.info(f"{len(report.loaded)} variables loaded into {name}")

    utils.load_pretrained_model = load_pretrained_model
