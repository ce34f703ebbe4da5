"""Trains the paper's ablations:  python tools/ablation.py --config CONFIG --study codewords|se_weight|components"""

import argparse

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import os

from paddleseg.utils import logger

from paddleseg_encnet.config import batch_recipe, building
from paddleseg_encnet.flags import bare_parser, run_main
from paddleseg_encnet.paper import ablation_plan, running, studies, study_report
from paddleseg_encnet.training import dashboard
from segrun.writing import check_place


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Trains a grid of EncNets, each with several seeds, and ends with a table and a plot.\n"
                            "Started again it goes on where it was.",
                            "--config encnet_camvid_240x180 --study se_weight --iters 500 --devices cpu")
    flags.add_argument("--config", required=True, help="training of the whole EncNet that cells change")
    flags.add_argument("--study", required=True, choices=list(studies.STUDIES),
                       help="codewords: K = 0 to 64; se_weight: SE-loss x 0 to 0.8; components: FCN, + encoding, ...")
    flags.add_argument("--cells", nargs="+", metavar="CELL", help="some of the study's cells only; --list names them")
    flags.add_argument("--list", action="store_true", help="name the cells and end")
    flags.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="seeds of each cell's trainings")
    flags.add_argument("--devices", nargs="+", default=["gpu"], metavar="DEVICE",
                       help="each trains one cell at a time, for instance gpu:0 gpu:1; the CPU if there is none. "
                       "cpu cpu: two at a time, each with half of the cores")
    flags.add_argument("--save_dir", default="./output/ablation", help="folder of all studies")
    flags.add_argument("--iters", type=int, help="steps of each training")
    flags.add_argument("--batch_size", type=int, help="samples a step")
    flags.add_argument("--learning_rate", type=float, help="base learning rate")
    flags.add_argument("--scale_lr", action="store_true", help="multiply the learning rate by the batch of one device "
                       "/ the config's base_batch_size")
    flags.add_argument("--save_interval", type=int, help="steps between two checkpoints, each with an evaluation; "
                       "a fifth of the steps if not given; from --iters on the last weights are all that is evaluated")
    flags.add_argument("--num_workers", type=int, default=0, help="processes that read data, for each training")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE", help="set keys of the config, in all cells")
    return flags


def main(args: argparse.Namespace) -> None:
    config = building.read_config(args.config, args.opts, learning_rate=args.learning_rate, iters=args.iters,
                                  batch_size=args.batch_size).config.dic
    if args.save_interval is not None and args.save_interval < 1:
        raise ValueError(f"--save_interval is a number of steps, at least 1, got {args.save_interval}")
    batch = batch_recipe.settle_batch(config, 1, args.scale_lr)
    if args.scale_lr:       # what the rate is for now, which the runs' config.yml is to say
        config["base_batch_size"] = config["batch_size"]
    study, cells = studies.cells(args.study, config), studies.cells(args.study, config, args.cells)
    if args.list:
        print("\n".join(f"{cell.folder:16} {cell.name}" for cell in cells))
        return
    logger.info(f"Each training is on one device. {batch}")
    folder = os.path.join(args.save_dir, args.study)
    check_place(os.path.join(folder, "results.md"))
    runs = ablation_plan.runs_of(cells, args.seeds, folder)

    def write_report() -> str:
        found = ablation_plan.with_finished(runs, study, folder)
        study_report.write_all(found, args.study, folder)
        return study_report.as_table(found)

    interval = args.save_interval or max(1, config["iters"] // 5)
    train_flags = ["--save_interval", str(interval), "--keep_checkpoint_max", "1"]
    if interval < config["iters"]:      # else its only evaluation would be that of tools/val.py, made twice
        train_flags.append("--do_eval")
    try:
        running.Ablation(
            runs, os.path.dirname(os.path.abspath(__file__)), args.devices,
            train_flags, args.num_workers, finished=write_report).run()
    except running.RunsFailed as error:
        write_report()
        raise running.RunsFailed(f"{error}. The others are in {os.path.join(folder, 'results.md')}") from error
    shown = args.save_dir if any(run.done_elsewhere for run in runs) else folder
    print(f"\nMean and standard deviation over the seeds, in percent, of the last weights:\n\n"
          f"{write_report()}\nWritten to {folder}: results.md, results.csv, {args.study}.png.\n"
          f"All runs with their hyper-parameters: {dashboard.visualdl_command(shown)}")


if __name__ == "__main__":
    run_main(main, flags())
