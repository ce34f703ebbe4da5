"""What the dashboard costs: its share of the time of a training.

python benchmarks/dashboard.py

Trains the quick start on drawn scenes with --use_vdl and takes the time inside the dashboard and outside; then it
evaluates with and without the losses, in turns.
"""

import os
import tempfile
import time
from collections import defaultdict

import measuring
from measuring import Row

CONFIG = os.path.join(os.path.dirname(measuring.HERE), "configs", "encnet_quick_start.yml")
STEPS, IMAGES, LOG_ITERS = 12, 24, 10       # LOG_ITERS is the default of --log_iters


def measure(_: str) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets

    # isort: split
    import paddle

    from paddleseg_encnet import scenes
    from paddleseg_encnet.config import building
    from paddleseg_encnet.evaluation.evaluation_loop import evaluate
    from paddleseg_encnet.training import training_loop
    from paddleseg_encnet.training.dashboard import Dashboard
    paddle.set_device("cpu")
    seconds = defaultdict(list)

    def timed(place, name):
        function = getattr(place, name)

        def call(*arguments, **options):
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name].append(time.perf_counter() - start)

        setattr(place, name, call)

    for place, name in ((Dashboard, "stepped"), (Dashboard, "evaluated"), (training_loop, "evaluate")):
        timed(place, name)
    with tempfile.TemporaryDirectory() as folder:
        scenes.generate(folder, train=16, val=IMAGES, size=(512, 256))
        builder = building.read_config(CONFIG, [f"train_dataset.dataset_root={folder}",
                                                f"val_dataset.dataset_root={folder}"])
        start = time.perf_counter()
        parts = training_loop.Parts(builder.model, builder.optimizer, builder.loss, builder.train_dataset,
                                    builder.val_dataset)
        schedule = training_loop.Schedule(STEPS, STEPS, log_iters=1, batch_size=builder.config.batch_size)
        training_loop.train_network(parts, schedule, os.path.join(folder, "run"), use_vdl=True)
        total = time.perf_counter() - start
        losses = measuring.interleaved({
            "with": lambda: evaluate(builder.model, builder.val_dataset, losses=builder.loss),
            "without": lambda: evaluate(builder.model, builder.val_dataset)}, rounds=3, in_a_row=1)
    steps = total - sum(seconds["evaluate"]) - sum(seconds["evaluated"]) - sum(seconds["stepped"])
    return {"steps": steps, "losses": losses["with"] / losses["without"] - 1,
            **{name: sum(values) for name, values in seconds.items()}}


def rows():
    took = measuring.child("dashboard.py", "run")
    yield Row("Curves", "% of the steps", 100 * took["stepped"] / LOG_ITERS / took["steps"],
              note=f"a point each {LOG_ITERS} steps")
    yield Row("Scores, pictures, histograms", "% of an evaluation", 100 * took["evaluated"] / took["evaluate"],
              note=f"{IMAGES} images of 512 x 256; four of them are predicted again")
    yield Row("Validation losses", "% of an evaluation", 100 * took["losses"], note="the same images")


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
