"""Repairs of PaddleSeg, one small function for each defect.

Each repair says its symptom and its cause, and has a probe that provokes the defect and tells whether it is there; a
PaddleSeg without the defect is not touched. Nothing here looks at a version number. `apply()` runs once, at import of
the package; `REPAIRS` lists what there is, `APPLIED` what was needed here.

What must happen before Paddle is imported stands in `before_paddle` and in cpu.py.
"""

import functools
import importlib
import inspect
import os
import tempfile
from typing import Callable, List, NamedTuple
from unittest import mock


class Repair(NamedTuple):
    name: str
    needed: Callable[[], bool]
    mend: Callable[[], None]


REPAIRS: List[Repair] = []
APPLIED: List[str] = []


def repair(needed):
    """Lists the decorated function as the mending of the defect that `needed` detects."""
    def add(mend):
        REPAIRS.append(Repair(mend.__name__, needed, mend))
        return mend
    return add


def apply():
    """Mends what is broken, once for each process."""
    for name, needed, mend in REPAIRS:
        if name not in APPLIED and needed():
            mend()
            APPLIED.append(name)


def before_paddle():
    """Symptom: segmentation fault in inflateReset2, or a DataLoader that hangs for ever, with Paddle 2.6.
    Cause: its shared library exports zlib's symbols; whoever loads zlib later gets Paddle's.
    Detected: not at all. Loading zlib first costs nothing and is right everywhere.
    """
    import zlib  # noqa: F401


# --- losses that have no dimension -----------------------------------------------------------------------------------

def _train_indexes_scalars() -> bool:
    import paddle
    module = importlib.import_module("paddleseg.core.train")
    ones = paddle.to_tensor([1.0], place=paddle.CPUPlace())
    losses = {"types": [lambda logits, labels: logits.sum()], "coef": [1]}
    term = module.loss_computation([ones], ones, None, losses)[0]
    return term.ndim == 0 and "[l[0] " in inspect.getsource(module.train)


@repair(needed=_train_indexes_scalars)
def losses_with_a_dimension():
    """Symptom: `IndexError: too many indices for array` at the first log line of PaddleSeg's train().
    Cause: it takes element 0 of each loss; since Paddle 2.5 a mean has no dimensions.
    Detected: loss_computation returns a loss without dimensions, and the source of train() takes `l[0]`.
    """
    module = importlib.import_module("paddleseg.core.train")

    def with_a_dimension(compute):
        @functools.wraps(compute)
        def computed(*args, **kwargs):
            return [loss.reshape([1]) for loss in compute(*args, **kwargs)]
        return computed

    train = module.train

    @functools.wraps(train)
    def repaired_train(model, *args, **kwargs):
        if hasattr(model, "loss_computation"):      # some models bring their own
            model.loss_computation = with_a_dimension(model.loss_computation)
        return train(model, *args, **kwargs)

    module.loss_computation = with_a_dimension(module.loss_computation)
    module.train = repaired_train
    importlib.import_module("paddleseg.core").train = repaired_train


# --- cross entropy ---------------------------------------------------------------------------------------------------

def _cross_entropy_fails() -> bool:
    import paddle
    from paddleseg.models.losses import CrossEntropyLoss
    logit = paddle.to_tensor([[[[0.0]], [[1.0]]]], place=paddle.CPUPlace())         # [1, 2, 1, 1]
    label = paddle.to_tensor([[[1]]], dtype="int64", place=paddle.CPUPlace())       # [1, 1, 1]
    try:
        CrossEntropyLoss()(logit, label)
    except TypeError:
        return True
    return False


@repair(needed=_cross_entropy_fails)
def cross_entropy_types():
    """Symptom: `TypeError ... x: float32, y: int64` in CrossEntropyLoss at the first training step.
    Cause: it multiplies a float32 mask with int64 coefficients; Paddle 3 no longer promotes types there.
    Detected: the loss of one pixel raises TypeError.
    """
    import paddle
    import paddle.nn.functional as F
    from paddleseg.models.losses import CrossEntropyLoss

    def post_process(self, logit, label, semantic_weights, loss):
        """Mean of the pixel losses [B, H, W]: over valid pixels, weighted by class, of the hardest share if asked."""
        valid = label != self.ignore_index
        mask = valid.astype("float32") if self.avg_non_ignore else paddle.ones(label.shape, dtype="float32")
        loss = (loss.squeeze(-1) if loss.ndim > mask.ndim else loss) * mask
        if semantic_weights is not None:
            loss = loss * semantic_weights
        if self.weight is None:
            coef = paddle.ones_like(mask)
        else:
            # An ignored label is no index; its coefficient is multiplied by the mask below.
            coef = F.embedding(paddle.where(valid, label, paddle.zeros_like(label)), self.weight.unsqueeze(1))
            coef = coef.squeeze(-1)
        if self.top_k_percent_pixels == 1.0:
            return loss.mean() / ((mask * coef).mean() + self.EPS)
        hardest, index = paddle.topk(loss.flatten(), int(self.top_k_percent_pixels * loss.size))
        return hardest.mean() / (paddle.gather(coef.flatten(), index).mean() + self.EPS)

    CrossEntropyLoss._post_process_loss = post_process


# --- evaluation ------------------------------------------------------------------------------------------------------

def _calculate_area_fails() -> bool:
    import paddle
    from paddleseg.utils import metrics
    one = paddle.to_tensor([[[[1]]]], dtype="int64", place=paddle.CPUPlace())
    try:
        metrics.calculate_area(one, one, num_classes=2)
    except ValueError:
        return True
    return False


@repair(needed=_calculate_area_fails)
def calculate_area_of_scalars():
    """Symptom: `ValueError: ... concat` at the first image of an evaluation.
    Cause: metrics.calculate_area concatenates counts that, since Paddle 2.5, have no dimension.
    Detected: one pixel of two classes raises ValueError.
    """
    import paddle
    from paddleseg.utils import metrics

    from paddleseg_encnet.evaluation.metrics import confusion_matrix

    def calculate_area(pred, label, num_classes, ignore_index=255):
        """Pixels of each class in both, in the prediction and in the label: three int64 tensors [num_classes]."""
        matrix = confusion_matrix(label.numpy(), pred.numpy(), num_classes, ignore_index)
        return tuple(paddle.to_tensor(area) for area in (matrix.diagonal().copy(), matrix.sum(0), matrix.sum(1)))

    metrics.calculate_area = calculate_area


# --- data ------------------------------------------------------------------------------------------------------------

def _unreadable_image_has_no_name() -> bool:
    from paddleseg.transforms import Compose
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "broken.png")
        open(path, "w").close()
        try:
            Compose([])({"img": path})
        except Exception as error:
            return "broken.png" not in str(error)
    return True


@repair(needed=_unreadable_image_has_no_name)
def unreadable_image():
    """Symptom: `AttributeError: 'NoneType' object has no attribute 'astype'` for a missing or broken image.
    Cause: Compose calls a method on what cv2.imread returned, which is None for such a file.
    Detected: the error for an empty file does not name it.
    """
    import cv2
    from paddleseg.transforms import Compose
    compose = Compose.__call__

    @functools.wraps(compose)
    def read_first(self, data):
        if isinstance(data.get("img"), str):
            image = cv2.imread(data["img"], self.read_flag)
            if image is None:
                state = "is damaged or no image" if os.path.exists(data["img"]) else "does not exist"
                raise ValueError(f"cannot read the image {data['img']}: it {state}")
            data["img"] = image.astype("float32")
        return compose(self, data)

    Compose.__call__ = read_first


def _cityscapes_pairs_by_position() -> bool:
    from paddleseg.datasets import Cityscapes
    with tempfile.TemporaryDirectory() as root:
        for name in ("leftImg8bit/train/x/a_leftImg8bit.png", "leftImg8bit/train/x/b_leftImg8bit.png",
                     "gtFine/train/x/b_gtFine_labelTrainIds.png"):
            path = os.path.join(root, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
        try:
            pairs = Cityscapes([], root).file_list
        except (OSError, ValueError):
            return False
    return any("a_leftImg8bit" in image and "b_gtFine" in label for image, label in pairs)


@repair(needed=_cityscapes_pairs_by_position)
def cityscapes_pairs_by_name():
    """Symptom: with one file missing, every later image trains on its neighbour's label, and nothing is said; a wrong
    dataset_root is answered without naming it.
    Cause: images and labels are two sorted lists, zipped.
    Detected: of two images and the second one's label, the first image is paired with that label.
    """
    from paddleseg.datasets import Cityscapes

    from paddleseg_encnet.data.datasets import cityscapes_pairs
    init = Cityscapes.__init__

    @functools.wraps(init)
    def pair_by_name(self, transforms, dataset_root, mode="train", edge=False):
        pairs = cityscapes_pairs(dataset_root, mode)
        init(self, transforms, dataset_root, mode, edge)
        self.file_list = pairs

    Cityscapes.__init__ = pair_by_name


def _ade20k_lists_any_file() -> bool:
    from paddleseg.datasets import ADE20K
    with tempfile.TemporaryDirectory() as root:
        for name in ("images/training/a.jpg", "images/training/notes.txt", "annotations/training/a.png"):
            path = os.path.join(root, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
        try:
            return len(ADE20K([], root).file_list) > 1
        except (OSError, ValueError):
            return False


@repair(needed=_ade20k_lists_any_file)
def ade20k_pairs_by_name():
    """Symptom: the order of the images differs from machine to machine, so that a seed, and ranks on several machines,
    mean different images; a stray file counts as an image; a mistyped dataset_root starts a download of a gigabyte.
    Cause: the list is os.listdir's, in the order of the file system; where there is no folder, one is downloaded.
    Detected: a text file between the images is listed.
    """
    from paddleseg.datasets import ADE20K

    from paddleseg_encnet.data.datasets import ade20k_pairs
    init = ADE20K.__init__

    @functools.wraps(init)
    def pair_by_name(self, transforms, dataset_root=None, mode="train", edge=False):
        split = mode.lower()
        # Without a root PaddleSeg downloads, as it says; another mode it refuses.
        pairs = ade20k_pairs(dataset_root, split) if dataset_root and split in ("train", "val") else None
        init(self, transforms, dataset_root, mode, edge)
        self.file_list = pairs or sorted(self.file_list)

    ADE20K.__init__ = pair_by_name


def _missing_voc_is_downloaded() -> bool:
    module = importlib.import_module("paddleseg.datasets.voc")
    asked = []

    def download(**options):
        asked.append(options)
        raise ValueError

    with tempfile.TemporaryDirectory() as root, \
            mock.patch.object(module, "download_file_and_uncompress", download):
        try:
            module.PascalVOC([], os.path.join(root, "nowhere"))
        except (OSError, ValueError):
            pass
    return bool(asked)


@repair(needed=_missing_voc_is_downloaded)
def missing_pascal_data_is_named():
    """Symptom: a mistyped dataset_root of PascalVOC starts a download of two gigabytes; with a list missing, PascalVOC
    and PascalContext say that a script was not run, which the second calls by a name that no script has, and not which
    file was looked for.
    Cause: where there is no folder, one is downloaded; the messages are fixed.
    Detected: PascalVOC of a folder that does not exist calls the downloader.
    """
    from paddleseg.datasets import PascalContext, PascalVOC

    from paddleseg_encnet.data.pascal import need_lists_of_context, need_lists_of_voc

    def look_first(dataset_class, need_lists):
        init = dataset_class.__init__

        @functools.wraps(init)
        def init_with_lists(self, transforms=None, dataset_root=None, mode="train", edge=False):
            if dataset_root is not None:
                need_lists(dataset_root, mode.lower())
            init(self, transforms, dataset_root, mode, edge)

        dataset_class.__init__ = init_with_lists

    look_first(PascalVOC, need_lists_of_voc)
    look_first(PascalContext, need_lists_of_context)


def _crop_replaces_the_image() -> bool:
    import numpy as np
    from paddleseg.transforms import RandomPaddingCrop
    # Every crop of two rows has both classes, half of each.
    data = {"img": np.zeros([2, 2, 3], "float32"), "label": np.array([[0, 0], [1, 1]], "uint8"), "gt_fields": ["label"]}
    state = np.random.get_state()
    cropped = RandomPaddingCrop(crop_size=[1, 2], category_max_ratio=0.9)(data)
    np.random.set_state(state)
    return cropped["img"].shape != (2, 1, 3)


@repair(needed=_crop_replaces_the_image)
def crop_by_category_ratio():
    """Symptom: with `category_max_ratio` below 1, RandomPaddingCrop trains on label pictures, or on images uncropped.
    Cause: where a crop is good it stores the label's crop as the image; where none is, it leaves the image whole.
    Detected: the crop of an image with three channels has not three channels.
    """
    import numpy as np
    from paddleseg.transforms import RandomPaddingCrop, functional
    transform = RandomPaddingCrop.__call__

    @functools.wraps(transform)
    def crop_image_and_label(self, data):
        if self.category_max_ratio >= 1 or data["img"].shape[:2] == self.crop_size:
            return transform(self, data)
        data = self._padding(data)
        size = data["img"].shape[:2]
        for _ in range(self.loop_times):
            window = self._get_crop_coordinates(size)
            classes, counts = np.unique(functional.crop(data["label"], window), return_counts=True)
            counts = counts[classes != self.ignore_index]
            if len(counts) > 1 and counts.max() < self.category_max_ratio * counts.sum():
                break
        for key in ("img", *data.get("gt_fields", [])):
            data[key] = functional.crop(data[key], window)
        return data

    RandomPaddingCrop.__call__ = crop_image_and_label


# --- pretrained weights ----------------------------------------------------------------------------------------------

def _misfit_is_only_warned_of() -> bool:
    from paddleseg.utils import utils
    return "is not in pretrained model" in inspect.getsource(utils.load_pretrained_model)


@repair(needed=_misfit_is_only_warned_of)
def pretrained_weights():
    """Symptom: `pretrained:` weights that do not fit are skipped with warnings, and training starts from random
    numbers; a file from elsewhere runs whatever code it holds; half a download is taken for a whole one.
    Cause: load_pretrained_model warns instead of stopping, and reads with paddle.load, which unpickles; the downloader
    does not look at lengths.
    Detected: its source has that warning (a trial run would print it at every import).
    """
    from paddleseg.utils import logger, utils

    from paddleseg_encnet.weights import checkpoint, download

    def load_pretrained_model(model, pretrained_model):
        """Fills the whole of `model` from a path or URL, or raises CheckpointError. For a backbone the file may hold
        more, such as the classifier that it was trained with on ImageNet."""
        name = type(model).__name__
        if pretrained_model is None:
            logger.info(f"No pretrained model to load, {name} will be trained from scratch.")
            return
        logger.info(f"Loading pretrained model from {pretrained_model}")
        is_backbone = hasattr(model, "feat_channels") and not hasattr(model, "backbone")
        report = checkpoint.load(model, download.pretrained(pretrained_model),
                                 ignore_extra=("",) if is_backbone else ())
        logger.info(f"{len(report.loaded)} variables loaded into {name}")

    utils.load_pretrained_model = load_pretrained_model


# --- a GPU build of Paddle on a machine without a GPU -----------------------------------------------------------------

def _environment_needs_cudnn() -> bool:
    import paddle
    from paddleseg.utils import get_sys_env
    if not paddle.is_compiled_with_cuda() or paddle.get_cudnn_version() is not None:
        return False
    try:
        get_sys_env()
    except TypeError:
        return True
    return False


@repair(needed=_environment_needs_cudnn)
def environment_without_cudnn():
    """Symptom: `TypeError: unsupported operand ... NoneType` before the first step, with paddlepaddle-gpu on a machine
    without cuDNN.
    Cause: get_sys_env divides the version of cuDNN, which is None there.
    Detected: Paddle is built for CUDA, finds no cuDNN, and get_sys_env raises TypeError.
    """
    import paddle
    from paddleseg.utils import get_sys_env

    @functools.wraps(get_sys_env)
    def repaired_get_sys_env():
        with mock.patch.object(paddle, "get_cudnn_version", lambda: 0):
            return get_sys_env()

    for name in ("paddleseg.utils", "paddleseg.utils.env", "paddleseg.utils.env.sys_env", "paddleseg.utils.utils"):
        importlib.import_module(name).get_sys_env = repaired_get_sys_env
