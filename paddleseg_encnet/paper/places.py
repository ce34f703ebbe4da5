"""Where a training of an ablation lies: one that two studies share is done once, in the folder of the first.

    SAVE_DIR/STUDY/CELL/seed_N/     its config.yml says what is trained there; names of folders do not matter
"""

import glob
import inspect
import os
import re
from typing import Any, List, Optional

import yaml
from paddleseg.cvlibs import manager

from paddleseg_encnet.paper.studies import EVALUATIONS, STUDIES


def training_folder(config: dict, cell: str, seed: int, study: str) -> str:
    """The folder of a training: its own, or that of the same training in another study beside this one. A finished
    one comes first, then the one that has come furthest.

    Args:
        cell: name of the cell's own folder.
        study: folder of the study.
    """
    own = os.path.join(study, cell, f"seed_{seed}")
    if os.path.exists(scores_file(own)) or differences_from(own, config):
        return own
    begun = [folder for folder in [own, *trainings(os.path.dirname(study), seed)]
             if os.path.exists(config_file(folder)) and not differences_from(folder, config)]
    return max(begun, key=lambda folder: (os.path.exists(scores_file(folder)), saved_steps(folder)), default=own)


def trainings(save_dir: str, seed: Optional[int] = None) -> List[str]:
    """The folders of all studies in which something is trained, with this seed or any."""
    name = "seed_*" if seed is None else f"seed_{seed}"
    found = [folder for study in STUDIES
             for folder in sorted(glob.glob(os.path.join(glob.escape(save_dir), study, "*", name)))]
    return [folder for folder in found if os.path.basename(os.path.dirname(folder)) not in EVALUATIONS]


def seeds_in(study: str) -> List[int]:
    """The seeds of all runs in a study's folder, and of the trainings in the studies beside it."""
    folders = glob.glob(os.path.join(glob.escape(study), "*", "seed_*")) + trainings(os.path.dirname(study))
    names = [re.fullmatch(r"seed_(-?\d+)", os.path.basename(folder)) for folder in folders]
    return sorted({int(name[1]) for name in names if name})


def config_file(folder: str) -> str:
    return os.path.join(folder, "config.yml")


def scores_file(folder: str) -> str:
    return os.path.join(folder, "scores.json")


def saved_steps(folder: str) -> int:
    """Where a training goes on: the step of its newest checkpoint."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return max([int(name[5:]) for name in names if re.fullmatch(r"iter_\d+", name)], default=0)


def differences_from(folder: str, config: dict) -> List[str]:
    """Where the config in a folder trains something else; [] if there is none."""
    if not os.path.exists(config_file(folder)):
        return []
    with open(config_file(folder), encoding="utf-8") as file:
        return differences(spelled_out(yaml.safe_load(file)), spelled_out(config))


def spelled_out(config: dict) -> dict:
    """The config with the defaults of its network: 32 codewords are the same whether it names them or not."""
    model = dict(config["model"])
    for name, parameter in inspect.signature(manager.MODELS[model["type"]]).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            default = parameter.default
            model.setdefault(name, list(default) if isinstance(default, tuple) else default)
    return {**config, "model": model}


def differences(there: Any, here: Any, key: str = "") -> List[str]:
    """Where two configs differ: ["loss.coef [1, 0.4] instead of [1, 0.2]"]."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [found for name in {**there, **here}
                for found in differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)]
    return [] if there == here else [f"{key} {there} instead of {here}"]
