"""Trains a CIFAR-10 classifier:  python tools/train_cifar.py --config configs/cifar10_encnet_32k128d.yml --data_file
cifar-10-python.tar.gz; with --model_path it only evaluates"""

import argparse

import paddleseg_encnet  # noqa: F401  registers the network; before paddle, whose speed on a CPU it sets

# isort: split

import os
import random

from paddleseg.utils import logger, utils

from paddleseg_encnet.config import batch_recipe, building
from paddleseg_encnet.data.cifar import HOME
from paddleseg_encnet.evaluation.evaluation_loop import evaluate
from paddleseg_encnet.flags import add_training_flags, parser, run_main
from paddleseg_encnet.runtime.devices import Precision, Ranks, select_device
from paddleseg_encnet.training import dashboard
from paddleseg_encnet.training.training_loop import Parts, Schedule, train_network
from paddleseg_encnet.weights import checkpoint
from segrun.errors import DataError
from segrun.writing import check_place

TEST_BATCH = 250


def flags() -> argparse.ArgumentParser:
    flags = parser("Training of a classifier for CIFAR-10, evaluated on its test images at each save",
                       "--config cifar10_encnet_32k128d --data_file cifar-10-python.tar.gz")
    flags.add_argument("--data_file", help="cifar-10-python.tar.gz; else as the config says")
    flags.add_argument("--model_path", help="weights to evaluate, without training")
    # An epoch has 390 steps of the recipe's batch.
    add_training_flags(flags, "./output/cifar10", save_interval=3900, log_iters=100, keep_checkpoint_max=2)
    return flags


def main(args: argparse.Namespace) -> None:
    builder = building.read_config(args.config, args.opts, learning_rate=args.learning_rate, iters=args.iters,
                                   batch_size=args.batch_size)
    config = builder.config
    batch_recipe.follow_iters(config.dic)
    if args.data_file is not None:
        for part in ("train_dataset", "val_dataset"):
            config.dic[part]["dataset_root"] = args.data_file
    for part in ("train_dataset", "val_dataset"):
        root = config.dic[part].get("dataset_root")
        if not os.path.isfile(str(root)):
            where = "--data_file" if args.data_file is not None else f"{part}.dataset_root in the config"
            raise DataError(f"{where} is {root}, and there is no such file: give --data_file the path of "
                            f"cifar-10-python.tar.gz, which is to be had at {HOME}")
    utils.show_env_info()
    utils.show_cfg_info(config)
    seed = random.SystemRandom().getrandbits(31) if args.seed is None else args.seed
    utils.set_seed(seed)
    device, ranks = select_device(args.device), Ranks.join()
    if ranks.first and args.model_path is None:
        check_place(os.path.join(args.save_dir, "iter_0"))
    test_images, model = builder.val_dataset, builder.model
    parameters = sum(parameter.size for parameter in model.parameters() if parameter.trainable)
    logger.info(f"{parameters / 1e6:.1f} million parameters")

    if args.model_path is not None:
        checkpoint.fill_layer(model, args.model_path)
    else:
        logger.info(f"--seed {seed} gives the random numbers of this run again")
        logger.info(batch_recipe.settle_batch(config.dic, ranks.count, args.scale_lr, args.accum_steps))
        logger.info("best_model is chosen by the test images themselves; report the error of the last weights")
        model = ranks.synchronise(model, device)
        train_dataset, optimizer, losses = builder.train_dataset, builder.optimizer, builder.loss
        schedule = Schedule(config.iters, args.save_interval, args.log_iters, args.keep_checkpoint_max,
                            batch_size=config.batch_size, accum_steps=args.accum_steps)
        train_network(Parts(model, optimizer, losses, train_dataset, test_images, {"batch_size": TEST_BATCH}), schedule,
                      args.save_dir, precision=Precision(args.precision), num_workers=args.num_workers,
                      resume_model=args.resume_model, use_vdl=args.use_vdl, hyper_parameters=dashboard.hyper_parameters(
                  config.dic, model, schedule.step_samples * ranks.count, seed))
    result = evaluate(model, test_images, num_workers=args.num_workers, batch_size=TEST_BATCH)
    print(f"error on {len(test_images)} test images, {'these' if args.model_path else 'last'} weights: "
          f"{100 * (1 - result.accuracy):.2f} %")


if __name__ == "__main__":
    run_main(main, flags())
