"""Images of validation beside those of training that show the same scene, as a picture."""

import os
from typing import Any, List

from paddleseg_encnet.data.findings import SharedScene
from paddleseg_encnet.data.reading import read_image

MOST = 12           # pairs in the picture


def draw_shared_scenes(scenes: List[SharedScene], path: str, channels: int = 3) -> None:
    """Writes a PNG with a pair in each row: the image of val, and its like in train."""
    from matplotlib.figure import Figure  # comes with PaddleSeg, through VisualDL; its import takes a second
    shown = scenes[:MOST]
    figure = Figure(figsize=(9, 3.1 * len(shown)), layout="constrained")
    for scene, panels in zip(shown, figure.subplots(len(shown), 2, squeeze=False)):
        for axes, split, image in zip(panels, ("val", "train"), (scene.image, scene.other)):
            axes.imshow(shown_pixels(image, channels), cmap="gray")
            axes.set_title(f"{split}: {os.path.basename(image)}", fontsize=8)
            axes.set_axis_off()
        panels[0].text(0, -0.02, scene.why, transform=panels[0].transAxes, fontsize=8, va="top")
    figure.savefig(path, dpi=80, format="png")


def shown_pixels(path: str, channels: int) -> Any:
    """RGB, or grey: of other numbers of channels the first."""
    pixels = read_image(path, channels)
    return pixels[..., ::-1] if channels == 3 else pixels if pixels.ndim == 2 else pixels[..., 0]
