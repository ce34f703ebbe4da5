"""What VisualDL shows of a run: curves, pictures, histograms, hyper-parameters. The training loop makes a Dashboard,
tells it of each logged step and each evaluation, and leaves it; it knows nothing of what is shown.

vdl_log.py writes the file.
"""

import contextlib
import math
import os
import shlex
import shutil
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import cv2
import numpy as np
import paddle
from paddleseg.utils import logger

from paddleseg_encnet.data.class_names import class_names, classes_of_dataset
from paddleseg_encnet.data.reading import reader_of
from paddleseg_encnet.data.samples import Loader
from paddleseg_encnet.live import LiveNetwork, undo_of
from paddleseg_encnet.models.encoding import Encoding
from paddleseg_encnet.models.losses import loss_names
from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training.pace import Pace
from paddleseg_encnet.training.saving import BestCheckpoint, State
from paddleseg_encnet.training.vdl_log import Log
from segrun import bands, drawing
from segrun.scoring import Scores
from segrun.segmenter import Segmenter
from segrun.tiling import asked_for

# Pictures of a long run: at most SHOWN evaluations x IMAGES panels of four pictures, none longer than SIDE pixels. A
# panel of CamVid takes 0.25 MB as PNG, one with a square photograph of pure noise 0.46 MB, so that all of them together
# stay below 200 MB.
SHOWN, IMAGES, SIDE = 100, 4, 384
UNLABELLED = 255        # its colour in color_table() is no class's
BINS = 40       # of a histogram; the page spreads wide bins over its own narrower ones, where counts of 1 or 2 vanish
RANGES = {"Encoding/gamma": (0, 1)}     # a sigmoid's
# What the table of hyper-parameters shows beside them: the last value of each.
METRICS = ["Evaluate/mIoU", "Evaluate/best_mIoU", "Evaluate/best_iter", "Evaluate/best_FWIoU", "Evaluate/best_Acc",
           "Train/loss"]


class Dashboard:
    """Writes a VisualDL log into `folder`; nothing if that is None. Whatever goes wrong with it is said once, and the
    training goes on. Leaving it prints the command that shows the log, however the run ends.

    Args:
        schedule: the run's `iters` and `save_interval`.
        state: where the run is.
        resumed: the checkpoint that it goes on from, None if it begins. If that lies in `folder`, so does its log,
            which is continued: what a killed process wrote after the checkpoint is cut off.
        hyper_parameters: {name: number or text}, see hyper_parameters().
    """

    def __init__(self, folder: Optional[str], schedule: Any, state: State, resumed: Optional[str] = None,
                 hyper_parameters: Optional[dict] = None):
        self.folder, self.schedule, self.hyper_parameters = folder, schedule, hyper_parameters or {}
        self.log: Optional[Log] = None
        self.said: Set[str] = set()     # what is said only once
        if folder is None:
            return
        try:
            from visualdl.component import base_component
        except Exception as error:      # it is there but doesn't fit its protobuf, for instance
            logger.warning("--use_vdl: no log is written, visualdl can't be imported "
                           f"({type(error).__name__}: {error}); pip install visualdl")
            self.folder = None
            return
        self.make = base_component
        if resumed and os.path.dirname(os.path.abspath(resumed)) == os.path.abspath(folder):
            with self.careful("go on with the earlier log"):
                self.log = Log.resume(folder, state)
        logger.info(f"Dashboard: {visualdl_command(folder)}")

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.folder is not None:
            if self.log is not None:
                self.log.file.close()
            logger.info(f"Open the dashboard with: {visualdl_command(self.folder)}")

    def stepped(self, step: int, loss_terms: Dict[str, float], lr: float, pace: Pace, images: int) -> None:
        """After a logged step: means since the last one. `images` is how many a step takes, over all ranks."""
        self.write(step, {
            "Train/loss": sum(loss_terms.values()),
            **{f"Train/loss_{name}": value for name, value in loss_terms.items()},
            "Train/lr": lr, "Train/batch_cost": pace.batch_cost, "Train/reader_cost": pace.reader_cost,
            "Train/images_per_second": images / pace.batch_cost,
            "Train/waiting_for_data": pace.reader_cost / pace.batch_cost})

    def evaluated(self, state: State, scores: Scores, model: paddle.nn.Layer, dataset: paddle.io.Dataset,
                  precision: Precision,
                  **inference: Any) -> None:
        """After an evaluation, with what evaluate() was called with. `state` knows this score already."""
        if self.folder is None:
            return
        best = state.best.get("model", BestCheckpoint())
        values = {
            "Evaluate/mIoU": scores.mean_iou, "Evaluate/FWIoU": scores.frequency_weighted_iou,
            "Evaluate/Acc": scores.accuracy, "Evaluate/mAcc": scores.mean_accuracy,
            **{f"Evaluate/loss_{name}": value for name, value in scores.losses.items()}}
        if scores.presence is not None:
            values["Evaluate/presence_AP"] = scores.presence.mean_average_precision
        if scores.codebook is not None:
            values.update({"Evaluate/codebook_information": scores.codebook.information,
                           "Evaluate/codewords_used": scores.codebook.used})
        values.update({"Evaluate/best_mIoU": best.mean_iou, "Evaluate/best_iter": best.step})
        if best.step == state.step:
            values.update({"Evaluate/best_FWIoU": scores.frequency_weighted_iou, "Evaluate/best_Acc": scores.accuracy})
        values.update({f"IoU/{name}": value for name, value in zip(class_names(dataset), scores.class_iou)
                       if not math.isnan(value)})       # nan: the class is absent, which is nothing to warn of
        self.write(state.step, values)
        if self.shows(state.step):
            panels = {}
            with gathered_attention(model) as gamma, self.careful("draw the validation images"), paddle.no_grad():
                panels = validation_panels(model, dataset, precision, **inference)
            self.write(state.step, images=panels, histograms={**codebook_values(model), "Encoding/gamma": gamma})
        with self.careful("write its log"):
            if self.log is not None:
                os.fsync(self.log.file.fileno())    # the checkpoint is about to say that this evaluation is done

    def shows(self, step: int) -> bool:
        """Whether the evaluation of this step is one of those with pictures. It follows from the step alone, so that
        it is the same after a resume."""
        interval = self.schedule.save_interval
        spacing = math.ceil(self.schedule.iters / interval / SHOWN)
        return math.ceil(step / interval) % spacing == 0 or step >= self.schedule.iters

    def write(self, step: int, scalars: Optional[Dict[str, float]] = None,
              images: Optional[Dict[str, np.ndarray]] = None,
              histograms: Optional[Dict[str, List[np.ndarray]]] = None) -> None:
        """Appends records by tag, without what is not finite: the page can't show that."""
        if self.folder is None:
            return
        with self.careful("write its log"):
            make, now = self.make, round(time.time() * 1000)
            scalars, images = scalars or {}, images or {}
            values = {tag: np.concatenate([np.zeros(0), *map(np.ravel, parts)])
                      for tag, parts in (histograms or {}).items()}
            self.say_what_is_left_out(step, {**scalars, **values})
            records = [make.scalar(legal(tag), value, step, now)
                       for tag, value in scalars.items() if math.isfinite(value)]
            records += [make.image(legal(tag), image, step, now) for tag, image in images.items()]
            records += [make.histogram(tag, *finite_histogram(numbers, RANGES.get(tag)), step, now)
                        for tag, numbers in values.items() if np.isfinite(numbers).any()]
            if self.log is None:
                self.log = Log.new(self.folder)
            if self.log.is_empty():
                table = make.hparam(os.path.basename(self.log.path), self.hyper_parameters, METRICS, now)
                records = [make.meta_data(walltime=now), table, *records]
            self.log.append(records)

    def say_what_is_left_out(self, step: int, values: dict) -> None:
        news = [tag for tag, value in values.items() if not np.isfinite(value).all() and tag not in self.said]
        self.said.update(news)
        if news:
            logger.warning(f"Dashboard: not finite at step {step} and left out: {', '.join(news)}. Said once for each")

    @contextlib.contextmanager
    def careful(self, what: str) -> Iterator[None]:
        """No error inside ends the training: it is said, the first time."""
        try:
            yield
        except Exception as error:
            if what not in self.said:
                logger.warning(f"--use_vdl: the dashboard can't {what} ({type(error).__name__}: {error}); training "
                               "goes on, and this is said once")
            self.said.add(what)


def legal(tag: str) -> str:
    """VisualDL itself puts % in the place of each / of a tag."""
    return tag.replace("%", "_")


def finite_histogram(values: np.ndarray, limits: Optional[Tuple[float, float]] = None) -> Tuple[np.ndarray, np.ndarray]:
    """Counts and edges of the finite ones, between their own limits if none are given."""
    return np.histogram(values[np.isfinite(values)], BINS, limits)


def visualdl_command(folder: str) -> str:
    """What opens the dashboard, from any folder, and where no virtual environment is active."""
    beside = os.path.join(os.path.dirname(sys.executable), "visualdl")
    program = "visualdl" if shutil.which("visualdl") or not os.path.exists(beside) else beside
    return f"{shlex.quote(program)} --logdir {shlex.quote(os.path.abspath(folder))}"


def validation_panels(model: paddle.nn.Layer, dataset: paddle.io.Dataset, precision: Precision, batch_size: int = 1,
                      **inference: Any) -> Dict[str, np.ndarray]:
    """A panel for each of a handful of images, evenly spaced over the set, by tag. Takes what evaluate() takes, but
    always one image at a time."""
    if not all(isinstance(files[0], str) for files in dataset.file_list):
        return {}       # CIFAR-10: no files, and labels of one pixel
    classes = classes_of_dataset(dataset)
    network = LiveNetwork(model, dataset.transforms, classes, precision=precision)
    segmenter = Segmenter.of(network, asked_for(inference))
    indices = np.unique(np.linspace(0, len(dataset) - 1, IMAGES).round().astype(int)).tolist()
    panels = {}
    for number, (index, data) in enumerate(zip(indices, Loader(dataset, batch_sampler=[[i] for i in indices])), 1):
        logits = segmenter.infer(data["img"], undo_of(data["trans_info"])).values
        path, label = dataset.file_list[index][0], data["label"]
        label, ids = label.numpy().reshape(label.shape[-2:]), np.asarray(logits.argmax(axis=1))[0]
        name = os.path.splitext(os.path.basename(path))[0]
        pixels = reader_of(dataset.transforms).image(path, dataset.transforms.img_channels)
        image = bands.shown(pixels)
        panels[f"Images/{number} {name}"] = panel(image, label, ids, classes.colors_of(np.uint8), dataset.ignore_index)
    return panels


def panel(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, colors: np.ndarray,
          ignore_index: int) -> np.ndarray:
    """Image and label, below them the prediction and where it is wrong: RGB [h, w, 3]. The page shows pictures in
    cards of about 4:3, where four in one row would be tiny.

    Args:
        image: RGB, uint8 [H, W, 3].
        label, prediction: ids [H, W].
        colors: as color_table() gives them.
    """
    label = np.where(label == ignore_index, UNLABELLED, label)
    scale = min(1.0, SIDE / max(label.shape))
    size = tuple(max(1, round(side * scale)) for side in label.shape[::-1])         # (width, height), as OpenCV wants
    image = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    label, prediction = (cv2.resize(ids.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
                         for ids in (label, prediction))
    return drawing.stacked([
        drawing.side_by_side([image, drawing.colorize(label, colors)], ["image", "label"]),
        drawing.side_by_side([drawing.colorize(prediction, colors), drawing.error_map(label, prediction, UNLABELLED)],
                             ["prediction", "errors in red"])])


@contextlib.contextmanager
def gathered_attention(model: paddle.nn.Layer) -> Iterator[list]:
    """A list that gathers the channel attention [B, C] of what the model sees inside; empty for other networks."""
    seen = []

    def keep(layer: paddle.nn.Layer, inputs: Any, gamma: paddle.Tensor) -> None:
        if paddle.in_dynamic_mode():        # while a static graph is built there are no numbers yet
            seen.append(gamma.astype("float32").numpy())

    module = getattr(model, "enc_module", None)
    hook = module.fc.register_forward_post_hook(keep) if module is not None else None
    try:
        yield seen
    finally:
        if hook is not None:
            hook.remove()


def codebook_values(model: paddle.nn.Layer) -> Dict[str, list]:
    """Codewords and their scales by tag; empty for networks that have none."""
    module = getattr(model, "enc_module", None)
    layers = [layer for layer in module.sublayers() if isinstance(layer, Encoding)] if module is not None else []
    parameters = {"Encoding/codewords": [layer.codewords for layer in layers],
                  "Encoding/scales": [layer.scale for layer in layers]}
    return {tag: [tensor.astype("float32").numpy() for tensor in tensors] for tag, tensors in parameters.items()}


def hyper_parameters(config: dict, model: paddle.nn.Layer, batch: int, seed: int) -> dict:
    """What tells one run from another: {name: number or text}, in the order of the table's columns.

    Args:
        config: PaddleSeg's, as it is used.
        batch: samples a step, over all devices.
    """
    network, rate = config["model"], config.get("lr_scheduler", {}).get("learning_rate")
    coefficients = config.get("loss", {}).get("coef", [])
    crops = [transform["crop_size"] for transform in config.get("train_dataset", {}).get("transforms", [])
             if "crop_size" in transform]
    values = {
        "lr": rate and float(rate), "batch": batch, "iters": config["iters"],
        "crop": "x".join(map(str, np.ravel(crops[0]))) if crops else None,
        "model": network["type"], "backbone": network.get("backbone", {}).get("type"),
        **{key: value for key, value in network.items()
           if isinstance(value, (bool, int, float, str)) and key not in ("type", "num_classes")},
        **{f"coef_{name}": float(value) for name, value in
           zip(loss_names(model, len(coefficients)), coefficients)},
        "seed": seed}
    # VisualDL would show truth values as 0 and 1.
    return {key: str(value) if isinstance(value, bool) else value for key, value in values.items() if value is not None}
