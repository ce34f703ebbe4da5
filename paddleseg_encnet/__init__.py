"""EncNet for PaddleSeg: importing this package repairs PaddleSeg where it is broken and registers

models     ENCNet, DilatedFCN (the paper's baseline), Encoding
losses     SELoss, also as SECrossEntropyLoss
backbones  ResNet18_v1b ... ResNet152_v1c, which the PyTorch implementations stand on; EfficientNetLite0 to 2
datasets   CamVid, PascalContext59

That is all it does. What the tools do, for scripts and notebooks (Segmenter, train, score, export, explain, and a
training's settings and events), is imported when it is first asked for.

Import it before paddle: threads, MKL's code path and malloc can be set only then.
"""

import importlib
import importlib.util
from typing import Any

from paddleseg_encnet.repairs import environment_repairs, table
from paddleseg_encnet.version import __version__
from segrun import cpu

cpu.prepare()
environment_repairs.before_paddle()
for _package in ("paddle", "paddleseg"):
    if importlib.util.find_spec(_package) is None:
        raise ImportError(f"No module named {_package!r}: training and live networks need Paddle and PaddleSeg, pip "
                          "install \"paddleseg_encnet[cpu]\", or \"paddleseg_encnet[gpu]\" for a GPU; `from segrun "
                          "import Segmenter` runs exports and the shipped network without them", name=_package)
cpu.import_paddle()
table.apply()

from paddleseg_encnet.data import cifar  # noqa: E402,F401   only registration; so do the others
from paddleseg_encnet.data.datasets import CamVid  # noqa: E402
from paddleseg_encnet.data.pascal import PascalContext59  # noqa: E402
from paddleseg_encnet.models import backbones, cifar_resnet, efficientnet_lite  # noqa: E402,F401   only registration; so do the others
from paddleseg_encnet.models.encnet import ENCNet  # noqa: E402
from paddleseg_encnet.models.encoding import Encoding  # noqa: E402
from paddleseg_encnet.models.fcn import DilatedFCN  # noqa: E402
from paddleseg_encnet.models.losses import SELoss  # noqa: E402
from paddleseg_encnet.runtime import paddleseg_log  # noqa: E402
from segrun import loading  # noqa: E402

paddleseg_log.join()
loading.run_live_with(lambda *arguments: importlib.import_module("paddleseg_encnet.live").load(*arguments))

# Where they stand. Most who import the package only want it registered.
LATER = {
    "Segmenter": "segrun.segmenter",
    "train": "paddleseg_encnet.training.training_of_config",
    "Optimising": "paddleseg_encnet.training.settings",
    "Saving": "paddleseg_encnet.training.settings",
    "Machine": "paddleseg_encnet.training.settings",
    "Stepped": "paddleseg_encnet.training.events",
    "Evaluated": "paddleseg_encnet.training.events",
    "score": "paddleseg_encnet.evaluation.scores_of_config",
    "export": "paddleseg_encnet.deployment.export_of_config",
    "explain": "paddleseg_encnet.explaining.explaining_of_config",
}

__all__ = ["CamVid", "DilatedFCN", "ENCNet", "Encoding", "Evaluated", "Machine", "Optimising", "PascalContext59",
           "SELoss", "Saving", "Segmenter", "Stepped", "__version__", "explain", "export", "score", "train"]


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(LATER[name]), name)
    return found


def __dir__() -> list:
    return sorted({*globals(), *LATER})
