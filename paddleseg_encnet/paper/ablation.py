"""What an ablation is to do: the cells of a study, each with several seeds, and where each is done.

    SAVE_DIR/CELL/seed_N/   config.yml, log.txt, checkpoints and VisualDL log of the training, and at last scores.json:
                            a run that has it is finished and is not run again
"""

import json
import os
import pathlib
import re
from typing import List, NamedTuple, Optional

import yaml

from paddleseg_encnet.paper.studies import Cell
from paddleseg_encnet.runtime.writing import write


class AblationError(ValueError):
    """A folder is that of another config, or weights are missing."""


class Run(NamedTuple):
    """A cell with a seed, and where it is done."""
    cell: Cell
    seed: int
    folder: str

    def __str__(self):
        return f"{self.cell.name}, seed {self.seed}"

    @property
    def config_file(self) -> str:
        return os.path.join(self.folder, "config.yml")

    @property
    def log_file(self) -> str:
        return os.path.join(self.folder, "log.txt")

    @property
    def scores_file(self) -> str:
        return os.path.join(self.folder, "scores.json")

    @property
    def weights_folder(self) -> str:
        """Of the run that trains its weights: its own, or that of another cell with the same seed."""
        study = os.path.dirname(os.path.dirname(self.folder))
        return os.path.join(study, self.cell.weights_of or self.cell.folder, f"seed_{self.seed}")

    @property
    def weights(self) -> str:
        return os.path.join(self.weights_folder, f"iter_{self.cell.config['iters']}", "model.pdparams")

    def scores(self) -> Optional[dict]:
        """What tools/val.py has said, None before that."""
        if not os.path.exists(self.scores_file):
            return None
        with open(self.scores_file) as file:
            return json.load(file)

    def differences(self, config_file: str = None) -> List[str]:
        """Where the config in its folder, or in another file, is another than its cell's."""
        with open(config_file or self.config_file) as file:
            return differences(yaml.safe_load(file), self.cell.config)

    def log_size(self) -> int:
        return os.path.getsize(self.log_file) if os.path.exists(self.log_file) else 0

    def saved_steps(self) -> int:
        """Where its training goes on: the step of its newest checkpoint."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return max([int(name[5:]) for name in names if re.fullmatch(r"iter_\d+", name)], default=0)

    def logged_steps(self, start: int) -> int:
        """The last step in the end of its log, behind the place `start`; 0 if there is none."""
        if self.log_size() <= start:
            return 0
        with open(self.log_file, "rb") as file:
            file.seek(max(start, self.log_size() - 20000))
            said = re.findall(rb"iter: (\d+)/", file.read())
        return int(said[-1]) if said else 0


def runs_of(cells: List[Cell], seeds: List[int], save_dir: str) -> List[Run]:
    """All runs, the first seed of every cell before the second of any, so that there is soon a whole table."""
    return [Run(cell, seed, os.path.join(save_dir, cell.folder, f"seed_{seed}"))
            for seed in dict.fromkeys(seeds) for cell in cells]


def with_finished(runs: List[Run], study: List[Cell], save_dir: str) -> List[Run]:
    """These runs and, in the order of the study, what else of it is finished in the folder, by earlier commands with
    other cells or seeds. Runs of another config than these cells' are left out."""
    found = {run.folder: run for run in runs}
    for cell in study:
        place = os.path.join(save_dir, cell.folder)
        for name in os.listdir(place) if os.path.isdir(place) else []:
            seed = re.fullmatch(r"seed_(-?\d+)", name)
            if seed is None or os.path.join(place, name) in found:
                continue
            run = Run(cell, int(seed[1]), os.path.join(place, name))
            if run.scores() is not None and os.path.exists(run.config_file) and not run.differences():
                found[run.folder] = run
    order = [cell.folder for cell in study]
    return sorted(found.values(), key=lambda run: (order.index(run.cell.folder), run.seed))


def prepare(run: Run):
    """Writes the run's config into its folder, or finds it there.

    Raises:
        AblationError: the folder is that of another config, or the one that its weights come from is.
    """
    for folder in (run.weights_folder, run.folder):
        config_file = os.path.join(folder, "config.yml")
        others = run.differences(config_file) if os.path.exists(config_file) else []
        if others:
            raise AblationError(f"{config_file} is of a run with {others[0]}; take another --save_dir, or move "
                                f"{folder} away")
    if os.path.exists(run.config_file):
        return
    text = yaml.safe_dump(run.cell.config, sort_keys=False)
    write(run.config_file, lambda path: pathlib.Path(path).write_text(text))


def differences(there, here, key: str = "") -> List[str]:
    """Where two configs differ: ["loss.coef [1, 0.4] instead of [1, 0.2]"]."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [found for name in {**there, **here}
                for found in differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)]
    return [] if there == here else [f"{key} {there} instead of {here}"]
