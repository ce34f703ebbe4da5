"""The paper's ablations as grids: a study makes cells of a config, each the config with one thing changed."""

import copy
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

CODEWORDS = (0, 8, 16, 32, 64)
SE_WEIGHTS = (0, 0.1, 0.2, 0.4, 0.8)
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)      # of PyTorch-Encoding's evaluation
DEEPER = "ResNet101_vd"
DEEPER_WEIGHTS = "https://bj.bcebos.com/paddleseg/dygraph/resnet101_vd_ssld.tar.gz"
MULTI_SCALE = "multi_scale"
EVALUATIONS = (MULTI_SCALE,)        # cells that score another cell's weights and train none
SE_LOSSES = ("SELoss", "SECrossEntropyLoss")


class Cell(NamedTuple):
    """One point of a study."""
    folder: str                         # its name in the file system and on the command line
    name: str                           # its name in a table
    config: dict
    evaluation: Tuple[str, ...] = ()    # further flags of tools/val.py
    weights_of: Optional[str] = None    # folder of the cell that trains for it; None: it trains itself


def codewords(config: dict) -> List[Cell]:
    """The number of codewords K; 0 is global average pooling."""
    return [Cell(f"codewords_{k}", f"K = {k}", changed(config, model={"num_codes": k})) for k in CODEWORDS]


def se_weight(config: dict) -> List[Cell]:
    """The weight of the SE-loss. With 0 its branch is there and learns nothing, so that all cells start alike."""
    def weighing(alpha: float) -> Dict[str, Any]:
        factors = [alpha if kind["type"] in SE_LOSSES else factor for kind, factor in loss_terms(config)]
        return changed(config, loss={"coef": factors})
    return [Cell(f"se_weight_{alpha}", f"SE-loss x {alpha}", weighing(alpha)) for alpha in SE_WEIGHTS]


def components(config: dict) -> List[Cell]:
    """The baseline, and each part of the whole added to those before it; and, beside `se_loss`, the same network with
    FastFCN's joint pyramid upsampling in place of dilation and of laterals. The config's SE-loss may be at stage 4 only
    or at both stages. A config with the deeper backbone, or with the upsampling, has no cell that adds it.

    Multi-scale evaluates whole images at each scale. In windows of the crop's size, as in the paper, does
    tools/val.py with --is_slide.
    """
    one = one_se_term(config)
    se_loss = both_stages = config
    if config["model"].get("use_se_loss_stage3"):
        se_loss = changed(config, model={"use_se_loss_stage3": False}, loss=of_terms(one))
    else:
        both_stages = changed(config, model={"use_se_loss_stage3": True}, loss=of_terms(one + one[-1:]))
    encoding = without_se_loss(se_loss)
    cells = [
        Cell("fcn", "FCN", baseline(encoding)),
        Cell("encoding", "+ encoding", encoding),
        Cell("se_loss", "+ SE-loss", se_loss),
        Cell("both_stages", "+ SE-loss at stage 3", both_stages)]
    if config["model"]["backbone"]["type"] != DEEPER:
        backbone = {**config["model"]["backbone"], "type": DEEPER}
        if backbone.get("pretrained"):      # else all cells are trained from scratch
            backbone["pretrained"] = DEEPER_WEIGHTS
        cells.append(Cell("deeper", f"+ {DEEPER}", changed(both_stages, model={"backbone": backbone})))
    whole = cells[-1]
    cells.append(Cell(MULTI_SCALE, "+ multi-scale and flip", whole.config, weights_of=whole.folder, evaluation=(
        "--aug_eval", "--flip_horizontal", "--scales", *map(str, SCALES))))
    if not config["model"].get("use_jpu"):
        cells.append(Cell("jpu", "+ SE-loss, JPU for dilation", with_jpu(se_loss)))
    return cells


def with_jpu(config: dict) -> dict:
    """The config as FastFCN has EncNet: a backbone of stride 32, no laterals."""
    backbone = {**config["model"]["backbone"], "output_stride": 32}
    config = changed(config, model={"use_jpu": True, "add_lateral": False, "backbone": backbone})
    config["model"].pop("fuse_at", None)        # it is about laterals
    return config


def codebook(config: dict) -> List[Cell]:
    """Does it help that the codebook is used? FCN, global average pooling, the published start of the codebook and that
    on the features, each but FCN with and without the SE-loss."""
    config = changed(config, model={"use_se_loss_stage3": False}, loss=of_terms(one_se_term(config)))
    starts: Dict[str, Tuple[str, Dict[str, Any]]] = {
              "pooling": ("pooling", {"num_codes": 0, "codebook_start": "published"}),
              "published": ("published start", {"codebook_start": "published"}),
              "features": ("start on the features", {"codebook_start": "features"})}
    found = [Cell("fcn", "FCN", baseline(without_se_loss(config)))]
    for folder, (name, options) in starts.items():
        whole = changed(config, model=options)
        found += [Cell(folder, f"{name}, SE-loss", whole), Cell(f"{folder}_no_se", name, without_se_loss(whole))]
    return found


STUDIES = {"codewords": codewords, "se_weight": se_weight, "components": components, "codebook": codebook}


def cells(study: str, config: dict, only: Optional[List[str]] = None) -> List[Cell]:
    """The cells of a study, all or those whose folders are named.

    Args:
        config: a training of ENCNet with its SE-loss, as PaddleSeg's Config has it (`dic`).

    Raises:
        ValueError: the config is of another network or without SE-loss, or a named cell is not in the study.
    """
    model = config["model"]
    if model["type"] != "ENCNet":
        raise ValueError(f"an ablation starts from the whole EncNet, and the config's model is {model['type']}")
    if not any(kind["type"] in SE_LOSSES for kind, _ in loss_terms(config)) or not model.get("use_se_loss", True):
        raise ValueError("an ablation starts from the whole EncNet, and the config has no SE-loss; set "
                         "model.use_se_loss and give SELoss in loss.types")
    found = STUDIES[study](config)
    unknown = set(only or []) - {cell.folder for cell in found}
    if unknown:
        raise ValueError(f"study {study} has no cell {sorted(unknown)[0]}; it has "
                         f"{', '.join(cell.folder for cell in found)}")
    return [cell for cell in found if not only or cell.folder in only]


def one_se_term(config: dict) -> list:
    """Its loss terms with one of the SE-losses, at the end."""
    terms = loss_terms(config)
    return [term for term in terms if term[0]["type"] not in SE_LOSSES] \
        + [term for term in terms if term[0]["type"] in SE_LOSSES][:1]


def without_se_loss(config: dict) -> dict:
    """One with the SE-loss at stage 4 only, without it."""
    return changed(config, model={"use_se_loss": False}, loss=of_terms(
        [term for term in loss_terms(config) if term[0]["type"] not in SE_LOSSES]))


def baseline(config: dict) -> dict:
    """One without SE-loss, with FCN for its network."""
    config = changed(config, model={"type": "DilatedFCN"})
    for name in ("num_codes", "use_se_loss", "use_se_loss_stage3", "use_encoding", "reduction", "random_scale",
                 "codebook_start"):
        config["model"].pop(name, None)
    return config


def loss_terms(config: dict) -> list:
    """[(loss, factor), ...] of a config, in the order of the network's outputs."""
    return list(zip(config["loss"]["types"], config["loss"]["coef"]))


def of_terms(terms: list) -> dict:
    """The reverse: a config's `loss`."""
    return {"types": [kind for kind, _ in terms], "coef": [factor for _, factor in terms]}


def changed(config: dict, **parts: dict) -> dict:
    """A copy of the config in which keys of some parts are replaced."""
    config = copy.deepcopy(config)
    for part, values in parts.items():
        config[part].update(copy.deepcopy(values))
    return config
