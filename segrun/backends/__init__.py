"""What computes an export: a module for each runtime, and the table of the forms that an export can have."""

import functools
import importlib.util
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple


class Form(NamedTuple):
    """A way to run an export.

    name: for people. backend, precision: as flags have them.
    key: of the file in deploy.yaml. flag: of tools/export.py, that writes this file.
    package: that has the runtime. device: "" for any.
    """
    name: str
    backend: str
    precision: str
    key: str
    flag: str
    package: str
    device: str = ""


FORMS = [
    Form("Paddle Inference", "paddle", "fp32", "model", "", "paddle"),
    Form("Paddle Inference, fp16", "paddle", "fp16", "model", "", "paddle", "gpu"),
    Form("ONNX Runtime", "onnx", "fp32", "onnx", "--onnx", "onnxruntime"),
    Form("ONNX Runtime, int8", "onnx", "int8", "int8", "--int8 IMAGES", "onnxruntime"),
    Form("OpenVINO", "openvino", "fp32", "onnx", "--onnx", "openvino", "cpu"),
    Form("OpenVINO, bf16", "openvino", "bf16", "onnx", "--onnx", "openvino", "cpu"),
    Form("OpenVINO, int8", "openvino", "int8", "int8", "--int8 IMAGES", "openvino", "cpu"),
]
AUTO = "auto"
LONGEST_REASON = 300        # letters of what a runtime says of a file
# Pixels of a batch from which on what a runtime has kept of it is given back when another size comes. A stream of one
# size finds it there.
LARGE = 1 << 18
BACKENDS = list(dict.fromkeys(form.backend for form in FORMS))
PRECISIONS = list(dict.fromkeys(form.precision for form in FORMS))


def form_of(backend: str, precision: str) -> Form:
    """Raises ValueError where there is none."""
    for form in FORMS:
        if (form.backend, form.precision) == (backend, precision):
            return form
    check_precision(precision)
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend}; there are {', '.join([*BACKENDS, AUTO])}")
    known = [form.precision for form in FORMS if form.backend == backend]
    raise ValueError(f"the backend {backend} runs {' and '.join(known)}, not {precision}")


def parted(device: str) -> Tuple[str, int]:
    """"gpu:1" -> ("gpu", 1). ValueError: it is no device of an export."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or not (number or "0").isdecimal():
        raise ValueError(f'an export runs on device "cpu" or "gpu", got {device!r}')
    return kind, int(number or 0)


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision}; there are {', '.join(PRECISIONS)}")


def forms_of(content: Mapping[str, Any], device: str = "cpu", precision: Optional[str] = None) -> List[Form]:
    """The forms that an export has files for, that run on this kind of device and whose runtime is installed.

    Args:
        content: of its deploy.yaml.
        precision: of these alone.
    """
    return [form for form in FORMS if form.key in content and form.device in ("", device)
            and precision in (None, form.precision) and importlib.util.find_spec(form.package) is not None
            and (form.precision != "bf16" or has_bfloat16())]


@functools.lru_cache(maxsize=None)
def openvino_core() -> Any:
    """OpenVINO's Core, one for the whole process.

    Each makes, where the processor has AMX, a stack for signals, and with its end puts back the one before. Of two that
    do not end in the reverse order of their making, that is the freed one of the other, and the next signal crashes.
    """
    from openvino import Core
    return Core()


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 (AVX512-BF16, AMX), rather than in float32 with rounding."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
