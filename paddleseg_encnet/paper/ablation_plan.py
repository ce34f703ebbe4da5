"""What an ablation is to do: the cells of a study, each with several seeds.

    SAVE_DIR/STUDY/CELL/seed_N/     config.yml, log.txt, checkpoints and VisualDL log of the training, and at last
                                    scores.json: a run that has it is finished and is not run again
"""

import json
import os
import pathlib
import re
from typing import List, NamedTuple, Optional

import yaml

from paddleseg_encnet.paper import places
from paddleseg_encnet.paper.studies import Cell
from segrun.writing import write


class AblationError(ValueError):
    """A folder is that of another config, or weights are missing."""


class CellRun(NamedTuple):
    """A cell with a seed, and where it is done."""
    cell: Cell
    seed: int
    folder: str
    weights_folder: str     # of the run that trains its weights: its own, or that of another cell with the same seed

    def __str__(self) -> str:
        return f"{self.cell.name}, seed {self.seed}"

    @property
    def config_file(self) -> str:
        return places.config_file(self.folder)

    @property
    def log_file(self) -> str:
        return os.path.join(self.folder, "log.txt")

    @property
    def scores_file(self) -> str:
        return places.scores_file(self.folder)

    @property
    def weights(self) -> str:
        return os.path.join(self.weights_folder, f"iter_{self.cell.config['iters']}", "model.pdparams")

    def scores(self) -> Optional[dict]:
        """What tools/val.py has said, None before that."""
        if not os.path.exists(self.scores_file):
            return None
        with open(self.scores_file, encoding="utf-8") as file:
            return json.load(file)

    @property
    def done_elsewhere(self) -> bool:
        """Another study's cell is the same training, and it is done there."""
        return os.path.basename(os.path.dirname(self.folder)) != self.cell.folder

    def log_size(self) -> int:
        return os.path.getsize(self.log_file) if os.path.exists(self.log_file) else 0

    def saved_steps(self) -> int:
        """Where its training goes on: the step of its newest checkpoint."""
        return places.saved_steps(self.folder)

    def logged_steps(self, start: int) -> int:
        """The last step in the end of its log, behind the place `start`; 0 if there is none."""
        if self.log_size() <= start:
            return 0
        with open(self.log_file, "rb") as file:
            file.seek(max(start, self.log_size() - 20000))
            said = re.findall(rb"iter: (\d+)/", file.read())
        return int(said[-1]) if said else 0


def runs_of(cells: List[Cell], seeds: List[int], study: str) -> List[CellRun]:
    """All runs, the first seed of every cell before the second of any, so that there is soon a whole table.

    Args:
        study: folder of the study, beside which those of the others lie.
    """
    return [run_of(cell, seed, study) for seed in dict.fromkeys(seeds) for cell in cells]


def run_of(cell: Cell, seed: int, study: str) -> CellRun:
    trained_in = places.training_folder(cell.config, cell.weights_of or cell.folder, seed, study)
    own = os.path.join(study, cell.folder, f"seed_{seed}")
    return CellRun(cell, seed, trained_in if cell.weights_of is None else own, trained_in)


def with_finished(runs: List[CellRun], cells: List[Cell], study: str) -> List[CellRun]:
    """These runs and, in the order of the study, what else of it is finished, by earlier commands with other cells or
    seeds, or for other studies. Runs of another config than these cells' are left out."""
    found = {(run.cell.folder, run.seed): run for run in runs}
    for cell in cells:
        for seed in places.seeds_in(study):
            if (cell.folder, seed) in found:
                continue
            run = run_of(cell, seed, study)
            if (run.scores() is not None and os.path.exists(run.config_file)
                    and not places.differences_from(run.folder, cell.config)):
                found[cell.folder, seed] = run
    order = [cell.folder for cell in cells]
    return sorted(found.values(), key=lambda run: (order.index(run.cell.folder), run.seed))


def prepare_run(run: CellRun) -> None:
    """Writes the run's config into its folder, or finds it there.

    Raises:
        AblationError: the folder is that of another config, or the one that its weights come from is.
    """
    for folder in (run.weights_folder, run.folder):
        others = places.differences_from(folder, run.cell.config)
        if others:
            raise AblationError(f"{places.config_file(folder)} is of a run with {others[0]}; take another --save_dir, "
                                f"or move {folder} away")
    if os.path.exists(run.config_file):
        return
    text = yaml.safe_dump(run.cell.config, sort_keys=False)
    write(run.config_file, lambda path: pathlib.Path(path).write_text(text, encoding="utf-8"))
