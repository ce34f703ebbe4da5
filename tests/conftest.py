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
from skips import pytest_configure  # noqa: F401

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


@pytest.fixture
def error_of(run_tool):
    """error_of("val", "--config", ...): the one line that a tool ends with."""
    def run(*arguments) -> str:
        with pytest.raises(SystemExit) as stopped:
            run_tool(*arguments)
        line = stopped.value.code
        assert isinstance(line, str) and line.startswith("error: ") and "\n" not in line
        return line
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


@pytest.fixture
def said(monkeypatch) -> list:
    """The same without the levels."""
    from paddleseg.utils import logger
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(logger, level, lines.append)
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
    return min((scenes / "leftImg8bit" / "val").glob("*/*.png"))


@pytest.fixture(scope="session")
def pixels(image) -> np.ndarray:
    """The same, RGB."""
    return cv2.imread(str(image))[..., ::-1].copy()


@pytest.fixture(scope="session")
def lively_network(small_config, pixels):
    """The small config's network with weights with which an image has many classes."""
    import networks
    return networks.lively(small_config, pixels)


@pytest.fixture(scope="session")
def lively_weights(lively_network, tmp_path_factory) -> pathlib.Path:
    """The file of its weights."""
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(lively_network.state_dict(), str(path))
    return path


@pytest.fixture(scope="session")
def logits_export(lively_network, image, tmp_path_factory) -> pathlib.Path:
    """Folder of an export of its logits, in every form that can be had here."""
    import exports
    folder = tmp_path_factory.mktemp("logits")
    exports.written(lively_network, folder, "none", image)
    return folder


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


@pytest.fixture(scope="session")
def deploy(lively_network, tmp_path_factory) -> pathlib.Path:
    """The deploy.yaml of the export that the service runs."""
    from service import NAMES

    from paddleseg_encnet.deployment.exporting import export_network
    folder = tmp_path_factory.mktemp("export")
    transforms = [{"type": "ResizeByShort", "short_size": 32}, {"type": "Normalize"}]
    export_network(lively_network, str(folder), {"transforms": transforms, "class_names": NAMES})
    return folder / "deploy.yaml"


@pytest.fixture(scope="module")
def service(deploy):
    """tools/serve.py in a process of its own, with the limits in service.py."""
    from service import limited
    with limited(deploy) as service:
        yield service
        assert service.process.poll() is None       # nothing of all that has ended it


@pytest.fixture
def film(tmp_path) -> str:
    """Seven frames, from dark to light."""
    import films
    return films.dark_to_light(tmp_path / "film.avi")


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
