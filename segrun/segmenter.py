"""The one object that takes an image and says what is in it. All tools go through it."""

import os
from typing import (
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    overload,
)

import numpy as np
from numpy.typing import NDArray

from segrun import bands
from segrun.classes import id_type
from segrun.errors import DataError
from segrun.image import ImageLike, frames_of, is_video, pixels_of
from segrun.loading import load_network
from segrun.network import IDS, Array, Network, Output, Prepared, Size
from segrun.preprocess import restore
from segrun.progress import Progress
from segrun.result import Segmentation, confidence_of, mask_of, sigmoid
from segrun.stages import Stages, Times, batches
from segrun.tiling import Tiling, combined, infer, scores_of, strips, windows

Result = TypeVar("Result")
Picture = TypeVar("Picture", bound=ImageLike)


class Task(NamedTuple):
    """An image on its way. prepared: None where it goes through in strips."""
    source: Any
    where: str
    pixels: NDArray[Any]
    prepared: Optional[Prepared]


class Failed(NamedTuple):
    """An image that can't be segmented, and why."""
    source: Any
    error: Exception


class Segmenter:
    """A trained network that is called with images:

        segmenter = Segmenter("encnet_lite0_camvid")
        segmenter("street.jpg").save("legend.png")

    Args:
        source: the name of a shipped network; the folder of an export by tools/export.py, or the deploy.yaml in it; a
            .safetensors file that says what it was trained by; or that config, as the tools' --config takes it, with
            its `weights`.
        weights: a file of weights, with a config.
        device: "cpu", "gpu", "gpu:1", ...; the GPU if there is one when it is None.
        opts: keys of the config to set, ["KEY=VALUE", ...].
        backend: of an export or a shipped network: "paddle", "onnx", "openvino", or "auto", the fastest here. The
            first of these that is installed if None. A shipped network is live if None and Paddle is installed.
        precision: of an export: "fp32", "int8", "bf16" with OpenVINO, or "fp16" on a GPU with Paddle Inference.
        threads: of the CPU, for an export; all if None.
        confidence: whether it is wanted; it takes time.
        min_conf: pixels whose confidence is below become unknown, the largest number of the mask's type.
        inference: as the flags of tools/predict.py of these names: is_slide, crop_size, stride, aug_pred, scales,
            flip_horizontal, flip_vertical.

    Calling it with an image returns a Segmentation, and with a list of images one for each. An image is

    - a path, read as the tools read images (docs/predict.md): an EXIF orientation is followed;
    - the bytes of an image file;
    - an array, uint8 [H, W, 3], RGB;
    - a PIL image. Its pixels are taken as they lie, so that what comes out fits np.asarray(image): an EXIF orientation
      is not followed; PIL.ImageOps.exif_transpose(image) follows it. Grey becomes three equal channels, a palette its
      colours, transparency is left out.

    For a network of other than three channels an array is what tools/predict.py reads of a file: uint8 [H, W] for one,
    else [H, W, channels] of any type of number. PIL images are for one and three.

    Several threads may use it at a time.

    Raises:
        ValueError, OSError: source or weights are missing or wrong (CheckpointError, ...), or what runs them is not
            installed; when it is called, an image can't be read (DataError), or is an array of another shape.
        TypeError: no argument has that name; an image is none of these, or an array of other numbers than uint8.
    """

    def __init__(self, source: Union[str, "os.PathLike[str]"], weights: Union[str, "os.PathLike[str]", None] = None,
                 device: Optional[str] = None, opts: Optional[Sequence[str]] = None, *, backend: Optional[str] = None,
                 precision: str = "fp32", threads: Optional[int] = None, confidence: bool = True,
                 min_conf: float = 0.0, **inference: Any):
        self.network, self.tiling = load_network(source, weights, inference, opts, device, backend=backend,
                                                 precision=precision, threads=threads)
        self.confidence, self.min_conf = confidence, min_conf

    @classmethod
    def of(cls, network: Network, tiling: Tiling = Tiling(), confidence: bool = True,
           min_conf: float = 0.0) -> "Segmenter":
        """Around a network that is there already."""
        segmenter = cls.__new__(cls)
        segmenter.network, segmenter.tiling = network, tiling
        segmenter.confidence, segmenter.min_conf = confidence, min_conf
        return segmenter

    @property
    def names(self) -> List[str]:
        """Of class 0, of class 1, ..."""
        return self.network.classes.names

    @overload
    def __call__(self, image: ImageLike) -> Segmentation:
        ...

    @overload
    def __call__(self, image: Union[List[Picture], Tuple[Picture, ...]]) -> List[Segmentation]:
        ...

    def __call__(self, image: Union[ImageLike, List[Picture], Tuple[Picture, ...]],
                 ) -> Union[Segmentation, List[Segmentation]]:
        if isinstance(image, (list, tuple)):
            return [self.segment(self.read(single, f"image {i} of the list"), f"image {i} of the list")
                    for i, single in enumerate(image)]
        return self.segment(self.read(image, "the image"), "the image")

    def stream(self, images: Union[str, "os.PathLike[str]", Iterable[ImageLike]], batch_size: int = 1,
               threads: int = 1) -> Iterator[Segmentation]:
        """A Segmentation of each image, in their order, with a few of them in memory at a time.

        Args:
            images: any number of images, or the path of a video, whose frames they are.
            batch_size: images that go through the network together; only those that are equal in size when they come to
                it share a batch. Results are equal but for rounding.
            threads: that read the next images while the network computes; with 0 one thing is done after the other.

        Raises what calling it with an image raises, when that image's turn comes.
        """
        if isinstance(images, (str, os.PathLike)):
            images = frames_of(os.fspath(images)) if is_video(os.fspath(images)) else [images]
        return self.flow(images, lambda segmentation: segmentation, batch_size, threads)

    # --- the way of one image: read, prepare, infer, restore, decide --------------------------------------------------

    def read(self, image: ImageLike, where: str) -> NDArray[Any]:
        """The pixels of an image as image.py has them for this network. `where` is what an error calls it."""
        return pixels_of(image, where, self.network.channels)

    def segment(self, pixels: NDArray[Any], where: str = "the image", show_rows: bool = False) -> Segmentation:
        """Of an image as `read` returns it; `show_rows`: with a line on how far its windows have come."""
        return self.finish(*self.compute([self.prepare(pixels, where, pixels)], show_rows)[0])

    def prepare(self, pixels: NDArray[Any], where: str, source: Any) -> Task:
        return Task(source, where, pixels, None if self.in_strips else self.network.prepare(pixels, where))

    @property
    def in_strips(self) -> bool:
        """Windows that slide over an image that is prepared pixel by pixel need memory for one row of windows, however
        high the image is. With scales, flips or a Resize the scores of the whole image are kept."""
        return not self.tiling.whole and self.tiling.once and self.network.pixelwise

    def compute(self, tasks: Sequence[Task], show_rows: bool = False) -> List[Tuple[Task, Output]]:
        """Images that come to the network in one size -> what it says of each, [1, C, h, w] or [1, h, w]; of one in
        strips its mask and confidence [H, W]."""
        if tasks[0].prepared is None:
            return [(task, self.by_strips(task, show_rows)) for task in tasks]
        output = infer(self.network, np.stack([task.prepared.image for task in tasks if task.prepared]), self.tiling)
        return [(task, Output(output.values[i:i + 1], None if output.presence is None else output.presence[i:i + 1]))
                for i, task in enumerate(tasks)]

    def infer(self, batch: Array, undo: List[Tuple[str, Size]]) -> Output:
        """What the network says of prepared images [B, channels, H, W], in their own size, which is one for all."""
        output = infer(self.network, batch, self.tiling)
        return output._replace(values=restore(output.values, undo, self.network.resize))

    def finish(self, task: Task, output: Output) -> Segmentation:
        """Classes and confidence of each pixel of the image."""
        presence = sigmoid(output.presence)
        if task.prepared is None:
            ids, confidence = output.values
        else:
            ids, confidence = self.decide(restore(output.values, task.prepared.undo, self.network.resize))
        return Segmentation(bands.shown(task.pixels), ids, self.network.classes, confidence,
                            presence if presence is None else presence[0], source=task.source)

    def decide(self, values: Array) -> Tuple[NDArray[Any], Optional[NDArray[Any]]]:
        """The mask and, where it is wanted, its confidence, uint8, both [H, W], of values [1, C, H, W] or [1, H, W]."""
        scores = self.network.meaning != IDS
        if self.min_conf > 0 and not scores:
            raise ValueError("min_conf needs probabilities, and this export gives classes alone: export it with "
                             "--output_op softmax or none")
        ids = np.asarray(values.argmax(axis=1) if scores else values)[0]
        count = values.shape[1] if scores else max(len(self.names), int(ids.max()) + 1)
        wanted = scores and (self.confidence or self.min_conf > 0)
        sure = confidence_of(np.asarray(values)[0], self.network.meaning) if wanted else None
        return mask_of(ids.astype(id_type(count)), sure, self.min_conf)

    def by_strips(self, task: Task, show_rows: bool) -> Output:
        """An image's mask and confidence, strip by strip, as values."""
        size, tiling = (task.pixels.shape[0], task.pixels.shape[1]), self.tiling
        crop_size, stride = tiling.crop_size, tiling.stride
        assert crop_size and stride     # as in_strips says
        presences: List[Optional[NDArray[Any]]] = []

        def of_window(top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
            prepared = self.network.prepare(task.pixels[top:bottom, left:right], task.where)
            output = scores_of(self.network, prepared.image[np.newaxis])
            presences.append(output.presence)
            scores: NDArray[Any] = np.asarray(output.values)[0]
            return scores

        progress = Progress(len(windows(size[0], crop_size[1], stride[1])), "rows of windows", show_rows)
        parts = []
        for _, scores in strips(of_window, size, crop_size, stride):
            parts.append(self.decide(scores[np.newaxis]))
            progress.advance()
        progress.close()
        ids, confidences = zip(*parts)
        confidence = None if confidences[0] is None else np.concatenate(confidences)
        return Output((np.concatenate(ids), confidence), combined(presences, tiling))

    # --- many images --------------------------------------------------------------------------------------------------

    def flow(self, images: Iterable[ImageLike], then: Callable[[Segmentation], Result], batch_size: int = 1,
             threads: int = 1, failed: Optional[Callable[[Any, Exception], None]] = None,
             times: Optional[Times] = None, show_rows: bool = False) -> Iterator[Result]:
        """then(segmentation) of each image, in their order. While the network computes, `threads` read the next images
        and another one does `then` with those before, where it may write; with 0 one thing is done after the other.

        Args:
            failed: failed(image, error) is called for an image that can't be read or segmented, or for which `then`
                raises a ValueError, when its turn comes, in the thread of `then`, and the others follow. Without it the
                error is raised.
            times: is told how long each step takes.
            show_rows: as of `segment`.
        """
        times = times or Times()
        size = self.network.batch_size or batch_size

        def read(image: ImageLike) -> Union[Task, Failed]:
            where = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "the image"
            with times.measure("preprocess"):
                return attempt(image, where, lambda: self.prepare(self.read(image, where), where, image),
                               (ValueError, OSError, TypeError))

        def compute(group: List[Any]) -> List[Any]:
            if isinstance(group[0], Failed):
                return group
            with times.measure("inference", len(group)):
                found = attempt(group[0].source, group[0].where, lambda: self.compute(group, show_rows))
            if isinstance(found, Failed) and len(group) > 1:        # one of them: which?
                return [each for single in group for each in compute([single])]
            return [found] if isinstance(found, Failed) else found

        def finish(item: Any) -> Optional[Tuple[Result]]:
            """None of what failed. Here, in the thread of `then`, so that what is told and what is written of other
            images keep their order."""
            if not isinstance(item, Failed):
                task, output = item
                try:
                    with times.measure("postprocess"):
                        return (then(self.finish(task, output)),)
                except ValueError as error:
                    if failed is None:
                        raise
                    item = Failed(task.source, with_image_named(error, task.where))
            if failed is None:
                raise item.error
            failed(*item)
            return None

        with Stages() as stages:
            tasks = stages.ahead(read, images, threads, max(threads, size))
            # A runtime that computes one at a time does so in this thread.
            computed = stages.ahead(compute, batches(tasks, size, alike), self.network.requests
                                    if self.network.requests > 1 and threads else 0)
            each = (item for group in computed for item in group)
            for found in stages.ahead(finish, each, min(threads, 1)):
                if found is not None:
                    yield found[0]


def attempt(source: Any, where: str, function: Callable[[], Result],
            kinds: Tuple[Type[Exception], ...] = (ValueError,)) -> Union[Result, Failed]:
    """What the function returns, or Failed where it raises one of these kinds of errors; others are no image's."""
    try:
        return function()
    except kinds as error:
        return Failed(source, with_image_named(error, where))


def with_image_named(error: Exception, where: str) -> Exception:
    """The error, saying which image it is of."""
    return error if where in str(error) or not isinstance(error, ValueError) else DataError(f"{where}: {error}")


def alike(item: Union[Task, Failed]) -> Any:
    """What images of one batch have in common; what is in no batch is like nothing else."""
    return item.prepared.image.shape if isinstance(item, Task) and item.prepared else object()
