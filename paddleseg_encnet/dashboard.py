"""What VisualDL shows of a run. The training loop calls it at three moments and knows nothing of VisualDL."""

import os
from typing import Dict, Optional

from paddleseg.utils import logger

from paddleseg_encnet.metrics import Scores


class Dashboard:
    """Writes a VisualDL log into `folder`; nothing if that is None. Tags are PaddleSeg's, plus loss terms by name."""

    def __init__(self, folder: Optional[str]):
        self.folder, self.writer = folder, None
        if folder is None:
            return
        try:
            from visualdl import LogWriter
        except ImportError as error:
            logger.warning(f"--use_vdl: no log is written, visualdl can't be imported ({error}); pip install visualdl")
            return
        os.makedirs(folder, exist_ok=True)
        self.writer = LogWriter(folder)

    def stepped(self, step: int, loss_terms: Dict[str, float], lr: float, pace):
        """After a logged step: means since the last one."""
        self._scalars(step, {
            "Train/loss": sum(loss_terms.values()), "Train/lr": lr, "Train/batch_cost": pace.batch_cost,
            "Train/reader_cost": pace.reader_cost,
            **{f"Train/loss_{name}": value for name, value in loss_terms.items()}})

    def evaluated(self, step: int, scores: Scores):
        """After an evaluation."""
        self._scalars(step, {"Evaluate/mIoU": scores.mean_iou, "Evaluate/Acc": scores.accuracy})

    def close(self):
        if self.writer is not None:
            self.writer.close()
            logger.info(f"Open the dashboard with: visualdl --logdir {self.folder}")

    def _scalars(self, step: int, values: Dict[str, float]):
        if self.writer is not None:
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, step)
