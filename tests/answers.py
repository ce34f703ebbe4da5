"""What the tools and Segmenter answer with the network in weights/, kept so that a change of the code can be compared
with the code before it, pixel by pixel. Only what a user calls is called.

python tests/answers.py record DIR              asks all of them; in the environment whose Paddle they shall run on
python tests/answers.py compare DIR_A DIR_B     answer by answer: equal, or what differs; exit code 1 if anything does
python tests/answers.py record tests/answers/recorded --small       what test_answers.py compares with
python tests/answers.py inputs                  makes the images and labels in tests/answers/inputs anew

The processes have one core and one thread, so that sums are taken in the same order. `compare` allows nothing: it is
for two recordings on one machine with one Paddle.
"""

import argparse
import base64
import csv
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import cv2
import numpy as np
import yaml
from PIL import Image, ImageOps

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "answers"
INPUTS, RECORDED = FOLDER / "inputs", FOLDER / "recorded"
IMAGES = INPUTS / "val"         # of a data set in the layout of CamVid; its labels are in valannot
STREET = ROOT / "docs" / "images" / "street.jpg"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"
CONFIGS = {"shipped": ROOT / "configs" / "encnet_lite0_camvid_480x360.yml", "resized": FOLDER / "resized.yml"}
VOID = 11                       # in the files of CamVid

# Of 160 x 120 three windows a side, the last of them nearer than a stride.
SLIDE = {"is_slide": True, "crop_size": [96, 72], "stride": [40, 30]}
SCALES = {"scales": [0.75, 1.0, 1.25], "flip_horizontal": True}
# How an image goes through the network: the name, the config, the sliding windows, the scales and flips.
WAYS = {"whole": ("shipped", {}, {}), "slide": ("shipped", SLIDE, {}), "aug": ("shipped", {}, SCALES),
        "slide aug": ("shipped", SLIDE, SCALES), "resized": ("resized", {}, {}), "resized aug": ("resized", {}, SCALES)}
KINDS = ("ids", "confidence", "overlay", "palette", "legend", "comparison")
SCORED = tuple(way for way in WAYS if way != "slide aug")       # of val in the small recording: it takes the longest
JUDGED = ("whole", "slide aug")     # ways whose confidence is in the small recording: it is the largest part of it
OUTPUT_OPS = ("argmax", "softmax", "none")
BACKENDS = ("paddle", "onnx", "openvino")
CLIPPED = 0.01      # margins between the two largest logits beyond this are written as this: they need less room


# --- asking: `run` is called as run("predict", "--flag", ...), answers are arrays, text or what JSON knows, by name ---

def run_as_process(tool: str, *arguments):
    on_the_cpu = ["--device", "cpu"] if tool in ("predict", "val", "explain") else []
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *on_the_cpu, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def network(config: str = "shipped") -> list:
    return ["--config", CONFIGS[config], "--model_path", WEIGHTS]


def way_flags(way: str, augment: str) -> list:
    """The flags of a way; `augment` is aug_pred of predict.py, aug_eval of val.py."""
    _, slide, scales = WAYS[way]
    flags = [f"--{augment}"] if scales else []
    for name, value in {**slide, **scales}.items():
        flags += [f"--{name}", *(() if value is True else value)]
    return flags


def on_data_set() -> list:
    return ["--opts", f"val_dataset.dataset_root={INPUTS}"]


def predict(run, folder, way: str, images, kinds=KINDS, name: str = "", flags=()) -> dict:
    run("predict", *network(WAYS[way][0]), "--image_path", images, "--save_dir", folder, "--save", *kinds,
        *way_flags(way, "aug_pred"), *flags, *on_data_set())
    return pictures(folder, f"predict {name or way}")


def val(run, folder, way: str) -> dict:
    file = folder / "scores.json"
    run("val", *network(WAYS[way][0]), "--save_json", file, *way_flags(way, "aug_eval"), *on_data_set())
    scores = json.loads(file.read_text())
    for name in ("config", "model_path"):
        scores.pop(name)
    return {f"val {way}": scores}


def export(run, folder, config: str, output_op: str, flags=("--onnx",)) -> dict:
    run("export", *network(config), "--save_dir", folder, "--output_op", output_op, *flags)
    return {f"export {config} {output_op}": yaml.safe_load((folder / "deploy.yaml").read_text())}


def infer(run, folder, exported, images, name: str, flags=()) -> dict:
    run("infer", "--config", exported / "deploy.yaml", "--image_path", images, "--save_dir", folder,
        "--cpu_threads", 1, *flags)
    return pictures(folder, f"infer {name}")


def explain_image(run, folder, image) -> dict:
    run("explain", image, *network(), "--save_dir", folder, *on_data_set())
    return {**pictures(folder, "explain"), f"explain {image.stem}.html": (folder / f"{image.stem}.html").read_text()}


def explain_folder(run, folder, images) -> dict:
    run("explain", images, *network(), "--save_dir", folder, *on_data_set())
    with open(folder / "codewords.csv", newline="") as file:
        rows = [[number(cell) for cell in row] for row in csv.reader(file)]
    return {**pictures(folder, "explain"), "explain codewords.csv": rows,
            "explain codewords.html": (folder / "codewords.html").read_text()}


def segment(segmenter, images, name: str) -> dict:
    """What a Segmenter says of images, by name: paths, arrays or PIL images."""
    answers = {}
    for label, image in images.items():
        seen, key = segmenter(image), f"segmenter {name}/{label}"
        answers.update({f"{key}/ids": seen.ids, f"{key}/overlay": seen.overlay(), f"{key}/image": seen.image,
                        f"{key}/repr": repr(seen), f"{key}/repr_png": decoded(seen._repr_png_())})
        for part in ("confidence", "presence"):
            found = getattr(seen, part)
            answers[f"{key}/{part}"] = "None" if found is None else found
    return answers


def serve(images, name: str, *flags) -> dict:
    """What the service answers, a process of its own."""
    command = [sys.executable, ROOT / "tools" / "serve.py", "--port", 0, "--cpu_threads", 1, *flags]
    process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        url = next(line.split()[-1] for line in lines if line.startswith("serving at "))
        answers = {}
        for image in images:
            key = f"serve {name}/{image.name}"
            found = json.loads(post(url, image, "?format=json&picture=true"))
            del found["milliseconds"]
            answers[f"{key}/picture"] = decoded(base64.b64decode(found.pop("picture")))
            answers[f"{key}/json"] = found
            answers[f"{key}/png"] = decoded(post(url, image, ""))
    finally:
        process.terminate()
        process.communicate()
    return answers


def post(url: str, image, query: str) -> bytes:
    request = urllib.request.Request(f"{url.rstrip('/')}/predict{query}", image.read_bytes(),
                                     {"Content-Type": "image/jpeg" if image.suffix == ".jpg" else "image/png"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


# --- reading what they wrote -----------------------------------------------------------------------------------------

def pictures(folder, name: str) -> dict:
    """All pictures and videos below a folder; of a palette picture its numbers, and the palette."""
    answers = {}
    for path in sorted(folder.rglob("*")):
        key = f"{name}/{path.relative_to(folder).as_posix()}"
        if path.suffix == ".avi":
            answers[key] = frames(path)
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                answers[key] = np.array(picture)
                if picture.mode == "P":
                    answers[f"{key}/palette"] = np.array(picture.getpalette(), np.uint8)
    if not answers:
        raise RuntimeError(f"{name} wrote no picture")
    return answers


def decoded(data: bytes) -> np.ndarray:
    """The pixels of a picture's file."""
    return np.array(Image.open(io.BytesIO(data)))


def frames(path) -> np.ndarray:
    """uint8 [N, H, W, 3]"""
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = video.read()
        if not read:
            return np.stack(found)
        found.append(frame)


def number(cell: str):
    return float(cell) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) else cell


# --- what they are asked of ------------------------------------------------------------------------------------------

def make_inputs():
    """Small pictures of the street, and labels: what the network says, moved by some pixels, so that the scores are
    neither perfect nor trivial. They are in the repository, so that no change of the code changes them."""
    shutil.rmtree(INPUTS, ignore_errors=True)
    labels = INPUTS / "valannot"
    for folder in (IMAGES, labels):
        folder.mkdir(parents=True)
    street = Image.open(STREET)
    small = street.resize((160, 120), Image.LANCZOS)
    made = {"small": small, "part": street.crop((40, 120, 200, 240)), "grey": ImageOps.mirror(small).convert("L"),
            "odd": street.resize((97, 61), Image.LANCZOS)}
    for name, picture in made.items():
        picture.save(IMAGES / f"{name}.png", optimize=True)
    exif = Image.Exif()
    exif[0x0112] = 6            # Orientation: it is to be turned by 90 degrees, clockwise
    small.transpose(Image.ROTATE_90).save(IMAGES / "turned.jpg", quality=95, exif=exif)
    with tempfile.TemporaryDirectory() as scratch:
        run_as_process("predict", *network(), "--image_path", IMAGES, "--save_dir", scratch, "--save", "ids")
        for name in made:
            ids = np.array(Image.open(pathlib.Path(scratch) / "ids" / f"{name}.png"))
            label = np.full_like(ids, VOID)
            label[3:, 5:] = ids[:-3, :-5]
            Image.fromarray(label).save(labels / f"{name}.png", optimize=True)


def folder_of_images(folder) -> pathlib.Path:
    """The small images and the street."""
    folder.mkdir()
    for path in [*IMAGES.iterdir(), STREET]:
        shutil.copy(path, folder / path.name)
    return folder


def video_of_the_street(path) -> pathlib.Path:
    """Six frames that move over the street."""
    street = np.ascontiguousarray(np.array(Image.open(STREET))[..., ::-1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (240, 180))
    for i in range(6):
        writer.write(np.ascontiguousarray(street[10 * i:10 * i + 180, 30 * i:30 * i + 240]))
    writer.release()
    return path


# --- recording -------------------------------------------------------------------------------------------------------

def everything(scratch) -> dict:
    """All answers."""
    images, video = folder_of_images(scratch / "images"), video_of_the_street(scratch / "moves.avi")
    listed = sorted(images.iterdir())
    folders = (scratch / f"answer_{i}" for i in itertools.count())
    run, answers = run_as_process, {}
    for way in WAYS:
        answers.update(predict(run, next(folders), way, images))
    answers.update(predict(run, next(folders), "whole", IMAGES, name="whole, of the data set"))
    answers.update(predict(run, next(folders), "whole", images, ("ids", "legend"), "min_conf", ["--min_conf", 0.5]))
    answers.update(predict(run, next(folders), "whole", video, ("overlay",), "video"))
    for way in WAYS:
        folder = next(folders)
        folder.mkdir()
        answers.update(val(run, folder, way))
    answers.update(explain_image(run, next(folders), IMAGES / "small.png"))
    answers.update(explain_folder(run, next(folders), images))

    exports = {f"{config} {op}": next(folders) for config in CONFIGS for op in OUTPUT_OPS}
    for name, folder in exports.items():
        forms = ["--onnx", "--int8", images] if name.endswith("none") else ["--onnx"]
        answers.update(export(run, folder, *name.split(), forms))
    for name, folder in exports.items():
        for backend in BACKENDS:
            for size in (1, 3) if name.endswith("none") else (1,):
                flags = ["--backend", backend, "--batch_size", size]
                answers.update(infer(run, next(folders), folder, images, f"{name} {backend} {size}", flags))
                if name.endswith("none") and backend != "paddle":
                    answers.update(infer(run, next(folders), folder, images, f"{name} {backend} int8 {size}",
                                         [*flags, "--precision", "int8"]))
    for backend in BACKENDS:
        answers.update(infer(run, next(folders), exports["shipped argmax"], video, f"video {backend}",
                             ["--backend", backend]))
    for name in ("shipped argmax", "resized softmax"):
        bare = nameless(exports[name], next(folders))
        answers.update(infer(run, next(folders), bare, images, f"{name}, without names"))
    onnx = ["--config", exports["shipped none"] / "deploy.yaml", "--backend", "onnx"]
    answers.update(serve(listed, "onnx", *onnx))
    answers.update(serve(listed, "paddle", "--config", exports["resized argmax"] / "deploy.yaml"))
    answers.update(serve(listed, "live", *network()))
    answers.update(segmenters({path.name: path for path in listed}, exports))
    return answers


def segmenters(paths: dict, exports: dict) -> dict:
    from paddleseg_encnet import Segmenter
    live = Segmenter(CONFIGS["shipped"], WEIGHTS, device="cpu")
    picture = Image.open(IMAGES / "turned.jpg")
    answers = segment(live, {**paths, "array": np.array(Image.open(STREET)), "PIL image": picture}, "live")
    for way in ("slide", "aug"):
        _, slide, scales = WAYS[way]
        options = {**slide, **scales, "aug_pred": bool(scales)}
        answers.update(segment(Segmenter(CONFIGS["shipped"], WEIGHTS, "cpu", **options), paths, way))
    answers.update(segment(Segmenter(CONFIGS["resized"], WEIGHTS, "cpu"), paths, "resized"))
    for name, folder in exports.items():
        answers.update(segment(Segmenter(folder, device="cpu"), paths, f"export {name}"))
    return answers


def nameless(exported, folder) -> pathlib.Path:
    """The export with a deploy.yaml as PaddleSeg's own tool writes it: without names and colours of the classes."""
    shutil.copytree(exported, folder)
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())["Deploy"]
    kept = {key: deploy[key] for key in ("input_shape", "model", "output_dtype", "output_op", "params", "transforms")}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": kept}))
    return folder


def small(scratch) -> dict:
    """What test_answers.py compares with, and how far the two largest logits are apart."""
    folders = (scratch / f"answer_{i}" for i in itertools.count())
    run, answers, exports = run_as_process, {}, {}
    for config in CONFIGS:
        exports[config] = next(folders)
        export(run, exports[config], config, "none")
    for way in WAYS:
        answers.update(predict(run, next(folders), way, IMAGES, ("ids", "confidence") if way in JUDGED else ("ids",)))
        answers.update(margins(exports[WAYS[way][0]], way))
        if way in SCORED:
            folder = next(folders)
            folder.mkdir()
            answers.update(val(run, folder, way))
    answers["explain codewords.csv"] = explain_folder(run, next(folders), IMAGES)["explain codewords.csv"]
    from paddleseg_encnet import Segmenter
    seen = segment(Segmenter(CONFIGS["shipped"], WEIGHTS, device="cpu"),
                   {path.name: path for path in sorted(IMAGES.iterdir())}, "live")
    answers.update({name: value for name, value in seen.items() if name.endswith(("/repr", "/presence"))})
    return answers


def margins(exported, way: str) -> dict:
    """Of each small image the difference of the two largest logits, float16 [H, W], at most CLIPPED: by Paddle and
    PaddleSeg alone, of an export that gives logits."""
    import paddle
    from paddleseg.core import infer
    loaded = paddle.jit.load(str(exported / "model"))
    config, slide, scales = WAYS[way]
    answers = {}
    for path in sorted(IMAGES.iterdir()):
        with Image.open(path) as picture:
            image = np.array(ImageOps.exif_transpose(picture).convert("RGB")).astype(np.float32)
        undo = []
        if config == "resized":         # as in resized.yml
            undo = [("resize", image.shape[:2]), ("padding", (112, 144))]
            image = cv2.copyMakeBorder(cv2.resize(image, (144, 112)), 0, 16, 0, 16, cv2.BORDER_CONSTANT,
                                       value=[127.5] * 3)
        inputs = paddle.to_tensor((image.transpose(2, 0, 1)[np.newaxis] / 255 - 0.5) / 0.5)
        with paddle.no_grad():
            _, logits = (infer.aug_inference if scales else infer.inference)(
                lambda batch: [loaded(batch.astype("float32"))], inputs.astype("float32"), undo, **scales, **slide)
        first, second = np.sort(logits.numpy()[0], axis=0)[:-3:-1]
        answers[f"margin {way}/{path.name}"] = np.minimum(first - second, CLIPPED).astype(np.float16)
    return answers


def record(folder, only_small: bool):
    with tempfile.TemporaryDirectory() as scratch:
        answers = (small if only_small else everything)(pathlib.Path(scratch))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: value for name, value in answers.items() if isinstance(value, np.ndarray)}
    np.savez_compressed(folder / "answers.npz", **arrays)
    rest = {name: value for name, value in answers.items() if name not in arrays}
    (folder / "answers.json").write_text(json.dumps(rest, indent=None if only_small else 1) + "\n")
    print(f"{len(answers)} answers in {folder}")


def load(folder) -> dict:
    """The answers of a recording."""
    with np.load(folder / "answers.npz") as arrays:
        return {**arrays, **json.loads((folder / "answers.json").read_text())}


def one_thread():
    """One core and one thread, for this process and those that it starts; which find this checkout's package."""
    os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path.insert(0, str(ROOT))
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


# --- comparing -------------------------------------------------------------------------------------------------------

def compare(first: dict, second: dict) -> int:
    """Prints a line for each answer and returns how many differ."""
    different = 0
    for name in sorted({**first, **second}):
        if name not in first or name not in second:
            verdict = f"only in the {'first' if name in first else 'second'}"
        else:
            verdict = difference(first[name], second[name])
        different += verdict != "equal"
        print(f"{name}: {verdict}")
    print(f"{different} of {len({**first, **second})} answers differ")
    return different


def difference(a, b) -> str:
    """"equal", or what is not."""
    if type(a) is not type(b):
        return f"{type(a).__name__} has become {type(b).__name__}"
    if isinstance(a, str):
        lines = list(zip(a.splitlines(), b.splitlines()))
        return "equal" if a == b else f"text, {sum(x != y for x, y in lines)} of {len(lines)} lines differ"
    if isinstance(a, np.ndarray):
        return difference_of_arrays(a, b)
    a, b = dict(leaves(a)), dict(leaves(b))
    if a.keys() != b.keys():
        return f"entries {sorted(a.keys() ^ b.keys())[:5]} are in one only"
    differing = [key for key in a if a[key] != b[key]]
    if not differing:
        return "equal"
    gaps = [abs(a[key] - b[key]) for key in differing if all(isinstance(x[key], (int, float)) for x in (a, b))]
    return f"{len(differing)} of {len(a)} entries differ, the largest difference is {max(gaps, default=0):.3g}; the " \
           f"first is {differing[0]}: {a[differing[0]]!r}, {b[differing[0]]!r}"


def difference_of_arrays(a: np.ndarray, b: np.ndarray) -> str:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype} {list(a.shape)} has become {b.dtype} {list(b.shape)}"
    differs = a != b
    if not differs.any():
        return "equal"
    colours = a.ndim > 2 and a.shape[-1] in (3, 4)
    of_pixels = differs.any(axis=-1) if colours else differs
    largest = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
    return f"{of_pixels.sum()} of {of_pixels.size} pixels differ, the largest difference is {largest:.3g}"


def leaves(value, name: str = ""):
    """(name, text, number or None) of all that is in dicts and lists."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{name}/{key}")
        if not value:
            yield name, "empty"
    else:
        yield name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    recorder = what.add_parser("record")
    recorder.add_argument("folder", type=pathlib.Path)
    recorder.add_argument("--small", action="store_true")
    comparer = what.add_parser("compare")
    comparer.add_argument("folders", type=pathlib.Path, nargs=2)
    what.add_parser("inputs")
    args = parser.parse_args()
    one_thread()
    if args.what == "compare":
        sys.exit(compare(*map(load, args.folders)) > 0)
    elif args.what == "inputs":
        make_inputs()
    else:
        record(args.folder.resolve(), args.small)


if __name__ == "__main__":
    main()
