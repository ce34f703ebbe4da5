"""Evaluates weights:  python tools/val.py --config CONFIG --model_path output/best_model/model.pdparams"""

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

from paddleseg.utils import logger, utils

from paddleseg_encnet import checkpoint, cli
from paddleseg_encnet.devices import Ranks, select_device
from paddleseg_encnet.evaluation import evaluate


def flags():
    flags = cli.parser("Model evaluation")
    flags.add_argument("--model_path", required=True, help="weights to evaluate")
    flags.add_argument("--data_format", default="NCHW", choices=["NCHW", "NHWC"], help="NHWC: DeepLabV3P only")
    cli.add_inference_flags(flags, "aug_eval")
    return flags


def main(args):
    builder = cli.build(args)
    cli.set_data_format(builder.config, args.data_format)
    cli.leave_out_pretrained(builder.config)
    options = cli.test_options(builder.config, args)
    utils.show_env_info()
    utils.show_cfg_info(builder.config)
    select_device(args.device)
    Ranks.join()
    dataset, model = builder.val_dataset, builder.model
    checkpoint.load(model, args.model_path)
    logger.info(f"Loaded {args.model_path}")
    evaluate(model, dataset, num_workers=args.num_workers, **options)


if __name__ == "__main__":
    cli.run(main, flags())
