"""Imports weights of another codebase:  python tools/import_weights.py CHECKPOINT --output_dir DIR

Of an EncNet it writes model.pdparams (or model.safetensors) and model.yml, which the other tools take; of a ResNet or
an EfficientNet-Lite alone backbone.pdparams and backbone.yml, a part of a config. CHECKPOINT is a file or an address.
"""

import argparse
import copy
import dataclasses
import os
from typing import Optional, Tuple, Union

import paddleseg_encnet  # noqa: F401  before paddle, whose speed on a CPU it sets

# isort: split

import paddle
import yaml
from paddleseg.cvlibs import manager
from paddleseg.cvlibs.config import parse_from_yaml

from paddleseg_encnet.config.shipped_configs import configs_folder, find_config
from paddleseg_encnet.flags import bare_parser, run_main
from paddleseg_encnet.weights import checkpoint, codebases, download, sources, weight_conversion
from paddleseg_encnet.weights.efficientnet_names import LiteSource
from segrun.own_files import check_outputs, write_own
from segrun.writing import check_place

# Number of classes -> the data set that has so many here.
DATASETS = {11: "camvid.yml", 19: "cityscapes.yml", 21: "pascal_voc12aug.yml", 59: "pascal_context.yml",
            150: "ade20k.yml"}
AnySource = Union[sources.Source, LiteSource]
PLACEHOLDER = "path/to/your/data"
# What the images of each family's training were normalised with, on [0, 1], RGB; PaddleSeg's own is 0.5 and 0.5.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Import weights of another codebase", "--output_dir output/imported\n"
                            "encnet_r50-d8_512x1024_80k_cityscapes_20200622_003554-fc5c5624.pth")
    flags.add_argument("checkpoint", help="weights of PyTorch-Encoding, mmsegmentation, torchvision, timm or PaddleSeg")
    flags.add_argument("--output_dir", required=True, help="folder for the weights and their config")
    flags.add_argument("--format", default="pdparams", choices=["pdparams", "safetensors"], help="of the weights")
    flags.add_argument("--base", help="config to take data, optimiser and losses from; by default the one of the data "
                       "set that has as many classes")
    flags.add_argument("--ema", action="store_true", help="take the averaged weights, which the file has beside the "
                       "others")
    flags.add_argument("--threshold", type=share, help="of the sigmoid of a head with one channel, where the file does "
                       "not say it")
    flags.add_argument("--align_corners", choices=["True", "False"], help="how the network resizes, where the file "
                       "does not say it; mmsegmentation's models of 769 x 769 need True")
    return flags


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"is {text}, must be between 0 and 1")
    return value


def main(args: argparse.Namespace) -> None:
    check_place(os.path.join(args.output_dir, "model.yml"))     # before a download
    path = download.pretrained(args.checkpoint)
    state = checkpoint.read_weights(path)
    try:
        source, tensors, section, notes = converted(state, args)
    except checkpoint.CheckpointError as error:
        raise checkpoint.CheckpointError(f"{path}: {error}") from None

    stem = "model" if source.is_network else "backbone"
    weights, config_path = (os.path.join(args.output_dir, f"{stem}.{ending}") for ending in (args.format, "yml"))
    check_outputs([weights, config_path], filter(None, [path, args.base]))
    if isinstance(source, sources.Source) and source.is_network:
        config = complete_config({**section, "pretrained": weights}, source, args.base, notes)
    else:
        config = {"model": {"backbone": {**section, "pretrained": weights}}}
        notes.append(f"{stem}.yml is a part of a config: name it first in the _base_ of one, before the network's")

    os.makedirs(args.output_dir, exist_ok=True)
    write_own(weights, lambda temporary: write_weights(tensors, temporary, args.format))
    write_own(config_path, lambda temporary: write_config(config, notes, source, temporary))
    report(path, source, notes, weights, config_path)


def converted(state: dict, args: argparse.Namespace) -> Tuple[AnySource, dict, dict, list]:
    """What the file holds, its tensors by our names, the section of a config that they belong to, and notes."""
    notes = []
    if args.ema:
        state, taken = sources.take_averaged(state)
        notes.append(taken)
    source = sources.recognise(state)
    if args.threshold:
        if not isinstance(source, sources.Source) or source.threshold is None:
            raise checkpoint.CheckpointError(f"--threshold is for a head with one channel, and this is a {source}")
        source = dataclasses.replace(source, threshold=args.threshold)
    if args.align_corners and isinstance(source, sources.Source) and source.is_network:
        source = dataclasses.replace(source, align_corners=args.align_corners == "True", assumed=())
    tensors, section = weight_conversion.convert_weights(state, source)
    return source, tensors, section, [*notes, *source.notes()]


def complete_config(model: dict, source: sources.Source, base: Optional[str], notes: list) -> dict:
    """A config for this network on the data of `base`, or of what has as many classes; adds to `notes`."""
    classes = source.num_classes or 0
    known = DATASETS.get(classes)
    config = {**parse_from_yaml(find_config(base) if base else shipped(known or DATASETS[19])), "model": model}
    there = classes_of_data(config)
    if there != classes:
        set_placeholders(config, classes)
        why = f"{base} is of {there or 'an unknown number of'} classes, the network of {classes}" if base else \
            f"no data set here has {classes} classes"
        notes.append(f"{why}: in the config, replace {PLACEHOLDER} by a folder with train.txt and val.txt, an image "
                     "and its label a line")
    losses = parse_from_yaml(shipped("encnet.yml"))["loss"]
    outputs = 2 + source.use_se_loss            # logits, auxiliary logits, presence logits
    config["loss"] = {key: values[:outputs] for key, values in losses.items()}
    if source.family != codebases.PADDLESEG:
        for part in ("train_dataset", "val_dataset"):
            for transform in config.get(part, {}).get("transforms", []):
                if transform["type"] == "Normalize":
                    transform.update(copy.deepcopy(IMAGENET))       # a shared list would be an anchor in the YAML
    return config


def shipped(part: str) -> str:
    return os.path.join(configs_folder(), "_base_", part)


def classes_of_data(config: dict) -> Optional[int]:
    """Of the data sets of a config; None if it has none, or of a kind that does not say it."""
    for part in ("train_dataset", "val_dataset"):
        dataset = config.get(part) or {}
        kind = manager.DATASETS.components_dict.get(dataset.get("type"))
        said = getattr(kind, "NUM_CLASSES", None) or dataset.get("num_classes")
        if said:
            return int(said)
    return None


def set_placeholders(config: dict, num_classes: int) -> None:
    """Replaces the data sets of a config by PaddleSeg's general one, of files listed in train.txt and val.txt."""
    for part in ("train", "val"):
        transforms = (config.get(f"{part}_dataset") or {}).get("transforms") or [{"type": "Normalize"}]
        config[f"{part}_dataset"] = {
            "type": "Dataset", "dataset_root": PLACEHOLDER, f"{part}_path": f"{PLACEHOLDER}/{part}.txt", "mode": part,
            "num_classes": num_classes, "transforms": transforms}


def write_weights(tensors: dict, path: str, file_format: str) -> None:
    if file_format == "safetensors":
        checkpoint.write_safetensors(tensors, path)
    else:
        paddle.save({name: paddle.to_tensor(value, place=paddle.CPUPlace()) for name, value in tensors.items()}, path)


def write_config(config: dict, notes: list, source: AnySource, path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"# {line}\n" for line in [f"Imported: {source}.", *notes])
        yaml.safe_dump(config, file, sort_keys=False, default_flow_style=None, width=120)


def report(path: str, source: AnySource, notes: list, weights: str, config_path: str) -> None:
    rows = weight_conversion.conversion_summary(source)
    width = max(len(there) for there, _, _ in rows)
    print(f"{path}: {source}")
    for there, here, count in rows:
        print(f"  {there:{width}}  ->  {here:16}{count:4} tensors")
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {weights} and {config_path}")


if __name__ == "__main__":
    run_main(main, flags())
