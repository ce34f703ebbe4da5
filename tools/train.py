"""Trains what a config names:  python tools/train.py --config configs/encnet_camvid_480x360.yml --do_eval --use_vdl"""

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import random

import paddle
from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data import checks
from paddleseg_encnet.runtime.devices import Precision, Ranks, select_device
from paddleseg_encnet.training import dashboard, recipe
from paddleseg_encnet.training.loop import Schedule, train
from paddleseg_encnet.weights import checkpoint, download, packages


def flags():
    flags = cli.parser("Model training")
    cli.add_training_flags(flags, "./output", save_interval=1000, log_iters=10, keep_checkpoint_max=5)
    flags.add_argument("--do_eval", action="store_true", help="evaluate at each save")
    flags.add_argument("--use_ema", action="store_true", help="keep a moving average of the weights too")
    flags.add_argument("--allow_partial", action="store_true", help="fine-tuning: of the network's `pretrained:` "
                       "weights take what fits, for instance all but the classifier of other classes; of the "
                       "backbone's all but the first convolution, where images have other channels")
    flags.add_argument("--early_stop_intervals", type=int, help="evaluations without a better mIoU before stopping")
    flags.add_argument("--amp_level", default="O1", choices=["O1", "O2"], help="level of mixed precision")
    flags.add_argument("--data_format", default="NCHW", choices=["NCHW", "NHWC"], help="NHWC: DeepLabV3P only")
    flags.add_argument("--repeats", type=int, default=1, help="times that an epoch goes through the data")
    flags.add_argument("--to_static_training", action="store_true", help="train the model as a static graph")
    flags.add_argument("--no_data_check", action="store_true", help="start without a quick look at the data")
    flags.add_argument("--profiler_options", help="see paddleseg/utils/train_profiler.py")
    return flags


def main(args):
    builder = cli.build(args, learning_rate=args.learning_rate, iters=args.iters, batch_size=args.batch_size)
    config = builder.config
    if config.dic["model"]["type"] == "CifarResNet":
        raise ValueError(f"{args.config} is a classifier of images; train it with tools/train_cifar.py")
    cli.set_data_format(config, args.data_format)
    pretrained = cli.take_pretrained(config)
    pretrained_backbone = cli.take_pretrained_backbone(config) if args.allow_partial else None
    utils.show_env_info()
    utils.show_cfg_info(config)
    seed = random.SystemRandom().getrandbits(31) if args.seed is None else args.seed
    logger.info(f"--seed {seed} gives the random numbers of this run again")
    utils.set_seed(seed)
    device, ranks = select_device(args.device), Ranks.join()
    logger.info(recipe.settle(config.dic, ranks.count, args.scale_lr, args.accum_steps))
    utils.set_cv2_num_threads(args.num_workers)

    built = {} if args.no_data_check else checks.quick_check(builder, args.do_eval)
    train_dataset = built.get("train") or builder.train_dataset
    train_dataset.file_list *= args.repeats
    val_dataset = (built.get("val") or builder.val_dataset) if args.do_eval else None
    model = builder.model
    if pretrained is not None:
        logger.info(checkpoint.load(model, download.pretrained(pretrained), allow_partial=args.allow_partial))
    if pretrained_backbone is not None:
        report = checkpoint.load(model.backbone, packages.weights(pretrained_backbone), allow_partial=True,
                                 ignore_extra=("",), where=pretrained_backbone)
        left = report.missing + report.wrong_shape
        logger.info(f"{len(report.loaded)} variables loaded into the backbone; left as initialised: {len(left)}"
                    + "".join(f", {name}" for name in left[:5]))
    model = ranks.synchronise(model, device)
    losses, optimizer = builder.loss, builder.optimizer
    if args.to_static_training or config.to_static_training:
        model = paddle.jit.to_static(model)
    train(model, train_dataset, optimizer, losses,
          Schedule(config.iters, args.save_interval, args.log_iters, args.keep_checkpoint_max,
                   args.early_stop_intervals),
          args.save_dir, config.batch_size, val_dataset, cli.test_options(config),
          Precision(args.precision, args.amp_level), args.num_workers, args.resume_model, args.use_ema, args.use_vdl,
          args.profiler_options,
          dashboard.hyper_parameters(config.dic, model, config.batch_size * args.accum_steps * ranks.count, seed),
          args.accum_steps)


if __name__ == "__main__":
    cli.run(main, flags())
