"""Which network is meant: a shipped one, an export, a file of weights, or a config with weights."""

import importlib.metadata
import importlib.util
import os
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from segrun.backends import AUTO, FORMS, check_precision, forms_of, parted
from segrun.backends.choosing import fastest
from segrun.backends.exported import Exported
from segrun.exports import Export
from segrun.network import Network
from segrun.tiling import Tiling, asked_for

LIVE = "segrun.live"        # group of entry points: load(source, weights, inference, opts, device) -> network, tiling
USUAL = (480, 640)          # of an image for a first run, height and width, where the export fixes none


def load_network(source: Union[str, "os.PathLike[str]"], weights: Union[str, "os.PathLike[str]", None] = None,
                 inference: Optional[Mapping[str, Any]] = None, opts: Optional[Sequence[str]] = None,
                 device: Optional[str] = None, backend: Optional[str] = None, precision: str = "fp32",
                 threads: Optional[int] = None, sample: Optional[NDArray[Any]] = None,
                 **how: Any) -> Tuple[Network, Tiling]:
    """The network of these arguments of Segmenter, and how images go through it.

    Args:
        sample: a batch as images will come, by which "auto" chooses; grey if None.
        how: further arguments of Exported.
    """
    source, inference = os.fspath(source), inference or {}
    export = deploy_file(source)
    shipped = shipped_files(source) if weights is None and not export else None
    if shipped and (backend or precision != "fp32" or not live_loader()):
        export = shipped.export
    if export:
        given = [name for name, value in (("weights", weights), ("opts", opts)) if value]
        if given:
            raise ValueError(f"{source} is taken for an export, which has weights of its own and knows no config: "
                             f"leave {', '.join(given)} out, or give the config's file")
        return exported(Export(export), backend, precision, device, threads, sample, **how), asked_for(inference)
    if backend or precision != "fp32":
        raise ValueError(f"backend and precision are for exports, and {source} is not one: tools/export.py makes one")
    if shipped:
        source = shipped.weights
    elif weights is None and not source.endswith(".safetensors"):
        raise ValueError(f"a config needs weights: Segmenter({source!r}, WEIGHTS); what needs none is the folder of an "
                         "export, a .safetensors file with its config, or the name of a shipped network")
    live = live_loader()
    if live is None:
        raise ValueError(f"{source} needs Paddle and PaddleSeg, and no installed package runs networks with them: pip "
                         "install \"paddleseg_encnet[cpu]\" or \"[gpu]\", or import paddleseg_encnet before")
    return live(source, None if weights is None else os.fspath(weights), inference, opts, device)


def deploy_file(source: str) -> Optional[str]:
    """The deploy.yaml that is meant, or None where none is."""
    if os.path.basename(source) == "deploy.yaml":
        return source
    return os.path.join(source, "deploy.yaml") if os.path.isdir(source) else None


def exported(export: Export, backend: Optional[str] = None, precision: str = "fp32", device: Optional[str] = None,
             threads: Optional[int] = None, sample: Optional[NDArray[Any]] = None, **how: Any) -> Exported:
    """An export in a runtime.

    Args:
        backend: "auto" is the fastest here; None the first in the table of forms that is installed.
        sample: as of `load_network`.

    Raises:
        ValueError, OSError: as of Exported; or "auto" finds none that runs it.
    """
    check_precision(precision)
    kind, _ = parted(device or "cpu")
    if backend == AUTO:
        shipped = os.path.realpath(export.path).startswith(os.path.realpath(shipped_folder()) + os.sep)
        return fastest(export, usual(export) if sample is None else sample, precision, device, threads,
                       remember=not shipped, **how)
    if backend is None:
        forms = forms_of(export.content, kind, precision)
        # Where none is, Exported says what is missing of the first one that could be.
        wanted = [form for form in FORMS if form.precision == precision]
        backend = (forms or [form for form in wanted if form.key in export.content] or wanted)[0].backend
    return Exported(export, backend, precision, device, threads, **how)


def usual(export: Export) -> NDArray[Any]:
    """A grey image of a usual size as a batch, [B, channels, H, W].

    Raises:
        ValueError: the export takes no such image.
    """
    height, width = (side if side > 0 else usual for side, usual in zip(export.input_shape[2:], USUAL))
    pixels = grey(height, width, export.channels)
    return export.filled(export.prepare(pixels, "a grey image").image[np.newaxis])


def grey(height: int, width: int, channels: int) -> NDArray[Any]:
    """An image as image.py has it."""
    return np.full([height, width] if channels == 1 else [height, width, channels], 128, np.uint8)


LiveLoader = Callable[..., Tuple[Network, Tiling]]
_live: List[LiveLoader] = []        # the one of run_live_with(), if it was called


def run_live_with(loader: LiveLoader) -> None:
    """Lets `loader(source, weights, inference, opts, device)` run what is no export: a config, or a file of weights."""
    _live[:] = [loader]


def live_loader() -> Optional[LiveLoader]:
    """What runs networks live: what was given to run_live_with(), or an installed package that says so of itself, where
    Paddle is installed too."""
    if _live:
        return _live[0]
    if importlib.util.find_spec("paddle") is None or importlib.util.find_spec("paddleseg") is None:
        return None
    found: Any = importlib.metadata.entry_points()
    group: List[Any] = list(found.select(group=LIVE) if hasattr(found, "select") else found.get(LIVE, []))
    return group[0].load() if group else None


# --- what is shipped --------------------------------------------------------------------------------------------------

class Shipped(NamedTuple):
    """A network that comes with the package: weights, with their config, for Paddle, an export for the rest."""
    weights: str
    export: str


def shipped_folder() -> str:
    """In the package where pip installed it, beside it in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "weights")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "weights")


def shipped_files(name: str) -> Optional[Shipped]:
    """Those of the shipped network of this name, None if there is none."""
    folder = shipped_folder()
    weights = os.path.join(folder, f"{name}.safetensors")
    if os.path.basename(name) != name or not os.path.isfile(weights):
        return None
    return Shipped(weights, os.path.join(folder, name, "deploy.yaml"))
