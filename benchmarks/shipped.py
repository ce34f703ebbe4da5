"""The network in weights/ on an image of 480 x 360: live, live on Paddle's depthwise kernel, and in each exported form.

python benchmarks/shipped.py

Forms whose packages are not installed are left out. The peer, in the column "stock", is the same network live with
Paddle's own kernel for depthwise convolutions.
"""

import pathlib
import tempfile
from importlib.util import find_spec

import measuring
from measuring import Row

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"
IMAGE = ROOT / "docs" / "images" / "street.jpg"


def exported(folder: str):
    """The network, live, after writing it into the folder in every form that can be had here."""
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets

    # isort: split
    import paddle

    from paddleseg_encnet.config import building
    from paddleseg_encnet.deployment.exporting import export_network
    from paddleseg_encnet.weights import checkpoint
    paddle.set_device("cpu")
    builder = building.read_config(CONFIG, pretrained=False)
    network = builder.model
    checkpoint.fill_layer(network, str(WEIGHTS))
    network.eval()
    onnx = all(map(find_spec, ("paddle2onnx", "onnxruntime", "onnx", "ml_dtypes")))
    export_network(network, folder, {"transforms": builder.config.val_dataset_cfg["transforms"]}, "argmax", onnx=onnx,
                   calibration=[str(IMAGE)] if onnx else None)
    return network


def measure() -> dict:
    """Seconds an image in each form; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        network = exported(folder)
        import paddle

        from paddleseg_encnet.models.depthwise import DepthwiseConv2D
        from segrun import cpu
        from segrun.backends import forms_of
        from segrun.backends.exported import Exported
        from segrun.exports import Export
        forward = DepthwiseConv2D.forward

        def live(kernel):
            DepthwiseConv2D.forward = kernel
            with paddle.no_grad():
                network(images)[0].numpy()
            DepthwiseConv2D.forward = forward

        export = Export(folder)
        runs = {form.name: Exported(export, form.backend, form.precision, "cpu", cpu.cpu_count())
                for form in forms_of(export.content)}
        batch = export.batch_of(str(IMAGE))
        images = paddle.to_tensor(batch)
        works = {"live": lambda: live(forward), "stock": lambda: live(paddle.nn.Conv2D.forward)}
        works.update((name, lambda run=each.run: run(batch)) for name, each in runs.items())
        return measuring.interleaved(works, rounds=8)


def rows():
    seconds = measuring.child("shipped.py", "all") or {}
    stock = seconds.pop("stock")
    for name, each in seconds.items():
        what = "live" if name == "live" else f"exported, {name}"
        yield Row(f"EncNet on Lite0, {what}", "ms", 1000 * each, 1000 * stock, None, None,
                  f"480 x 360; {1 / each:.1f} images/s; stock: live on Paddle's depthwise kernel")


if __name__ == "__main__":
    measuring.main(__doc__, rows, lambda _: measure())
