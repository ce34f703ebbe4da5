"""What the tests share. The package comes first: it sets threads and repairs PaddleSeg."""

import importlib.util
import os
import pathlib
from unittest import mock

# OpenCV asks for it once: a damaged file may claim to hold an image of gigabytes, which takes its time.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2 ** 24))

import paddleseg_encnet  # noqa: E402, F401

# isort: split

import cv2
import installed_wheel
import numpy as np
import paddle
import pytest
from hypothesis import HealthCheck, settings

from segrun import cpu

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAMVID = pathlib.Path(os.environ.get("CAMVID_ROOT", ROOT.parent / "shared" / "camvid"))

paddle.set_device("cpu")

# How many examples a rule (rules.py) has: RULES=stress, or a number, and pytest tests -m rule. The 200 are the same in
# each run, so that nobody's change fails by chance; others are drawn anew, and a failing one is printed with what
# repeats it.
RULES = os.environ.get("RULES", "test")
settings.register_profile("test", max_examples=200, derandomize=True, deadline=None, database=None,
                          suppress_health_check=list(HealthCheck))
settings.register_profile("stress", settings.get_profile("test"), derandomize=False, print_blob=True,
                          max_examples=int(RULES) if RULES.isdecimal() else 10_000)
settings.load_profile("stress" if RULES.isdecimal() else RULES)


def pytest_terminal_summary(terminalreporter):
    import rules
    if rules.RAN:
        terminalreporter.write_line(f"Examples by rule: {', '.join(f'{n} {name}' for name, n in rules.RAN.items())}")


def relative_difference(a, b) -> float:
    """Largest difference, relative to the largest value of `b`."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


def tool(name: str):
    """The module of tools/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_tool():
    """run_tool("val", "--config", ...) runs a tool in this process, on the CPU, as its command line would."""
    from paddleseg_encnet.flags import run_main as run_with

    def run(name: str, *arguments):
        module = tool(name)
        # Parameters are numbered in the order of their making; a tool starts at 0 in its own process. And the threads
        # that it sets end with it.
        with paddle.utils.unique_name.guard(), cpu.kept_threads(), mock.patch.dict(os.environ):
            flags = module.flags()
            on_the_cpu = ["--device", "cpu"] if "--device" in flags.format_help() else []
            run_with(module.main, flags, on_the_cpu + [str(argument) for argument in arguments])
    return run


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> pathlib.Path:
    """Eight training and four validation scenes of 128 x 64 in the layout of Cityscapes."""
    from paddleseg_encnet import scenes
    root = tmp_path_factory.mktemp("data") / "scenes"
    scenes.generate(str(root), train=8, val=4, size=(128, 64))
    return root


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Each file begins with the threads of the environment, in which the processes that it starts run too."""
    with cpu.kept_threads():
        yield


@pytest.fixture
def one_thread():
    """As each of the ranks has: sums over the threads are then taken in the same order."""
    from paddle.base import core
    with cpu.kept_threads():
        core.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def small_config(tmp_path_factory, scenes) -> pathlib.Path:
    """The quick start on these scenes, with a crop and a head that train in a second."""
    path = tmp_path_factory.mktemp("configs") / "small.yml"
    path.write_text(f"""
_base_: {ROOT}/configs/encnet_quick_start.yml
batch_size: 2
iters: 4
train_dataset:
  dataset_root: {scenes}
  transforms:
    - {{type: RandomPaddingCrop, crop_size: [96, 64]}}
    - {{type: RandomHorizontalFlip}}
    - {{type: Normalize}}
val_dataset: {{dataset_root: {scenes}}}
model: {{num_codes: 4, mid_channels: 16}}
lr_scheduler: {{warmup_iters: 1}}
""")
    return path


@pytest.fixture
def logged(monkeypatch) -> list:
    """What is logged: (level, line). Not what is on stdout: that of PaddleSeg's repository version holds on to another.
    """
    from paddleseg.utils import logger
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(logger, level, lambda line, level=level: lines.append((level, line)))
    return lines


@pytest.fixture(scope="session")
def small_weights(small_config, tmp_path_factory) -> pathlib.Path:
    """Weights of the small config's network, as they are drawn."""
    from paddleseg.cvlibs import Config, SegBuilder
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(SegBuilder(Config(str(small_config))).model.state_dict(), str(path))
    return path


@pytest.fixture(scope="session")
def image(scenes) -> pathlib.Path:
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


@pytest.fixture(scope="session")
def pixels(image) -> np.ndarray:
    """The same, RGB."""
    return cv2.imread(str(image))[..., ::-1].copy()


@pytest.fixture(scope="session")
def lively_weights(small_config, pixels, tmp_path_factory) -> pathlib.Path:
    """Weights of the small config's network with which an image has many classes."""
    import networks
    return networks.lively(small_config, pixels, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def resizing(small_config, tmp_path_factory) -> pathlib.Path:
    """The small config with validation images made smaller, so that predictions are resized to the image's own size."""
    path = tmp_path_factory.mktemp("resizing") / "resizing.yml"
    path.write_text(f"""
_base_: {small_config}
val_dataset:
  transforms: [{{type: Resize, target_size: [96, 48]}}, {{type: Normalize}}]
""")
    return path


@pytest.fixture(scope="session")
def segmenter(small_config, lively_weights):
    """A live one of the small config."""
    from segrun import Segmenter
    return Segmenter(small_config, lively_weights, device="cpu")


@pytest.fixture
def camvid() -> pathlib.Path:
    if not (CAMVID / "train").is_dir():
        pytest.skip(f"no CamVid in {CAMVID}; set CAMVID_ROOT to a copy in the layout of the SegNet authors")
    return CAMVID


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> pathlib.Path:
    return installed_wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> installed_wheel.Installed:
    folder = tmp_path_factory.mktemp("installed")
    installed_wheel.pip("install", "--target", folder, wheel)
    return installed_wheel.Installed(folder, tmp_path_factory.mktemp("empty"))
