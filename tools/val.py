"""Evaluates weights:  python tools/val.py --config CONFIG --model_path output/best_model/model.pdparams"""

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data.datasets import class_names
from paddleseg_encnet.evaluation import confusion, report
from paddleseg_encnet.evaluation.loop import evaluate
from paddleseg_encnet.runtime.devices import Ranks, select_device
from paddleseg_encnet.runtime.writing import check_place, write
from paddleseg_encnet.weights import checkpoint


def flags():
    flags = cli.parser("Model evaluation",
                       "--config encnet_quick_start --model_path output/best_model/model.pdparams")
    flags.add_argument("--model_path", required=True, help="weights to evaluate")
    flags.add_argument("--data_format", default="NCHW", choices=["NCHW", "NHWC"], help="NHWC: DeepLabV3P only")
    flags.add_argument("--save_json", metavar="FILE", help="write all scores and the confusion matrix")
    flags.add_argument("--save_csv", metavar="FILE", help="write the scores of each class")
    flags.add_argument("--save_confusion", metavar="FILE.png", help="draw the confusion matrix")
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
    ranks = Ranks.join()
    paths = [path for path in (args.save_json, args.save_csv, args.save_confusion) if path]
    if ranks.first:     # an evaluation may take an hour: what can't be written is said before
        if args.save_confusion:
            confusion.check_picture(args.save_confusion)
        for path in paths:
            check_place(path)
    dataset, model = builder.val_dataset, builder.model
    checkpoint.load(model, args.model_path)
    logger.info(f"Loaded {args.model_path}")
    scores = evaluate(model, dataset, num_workers=args.num_workers, **options)

    if not ranks.first:
        return
    names = class_names(dataset)
    about = {"config": args.config, "model_path": args.model_path, "inference": options, "images": len(dataset)}
    if args.save_json:
        write(args.save_json, lambda path: report.write_json(path, scores, names, about))
    if args.save_csv:
        write(args.save_csv, lambda path: report.write_csv(path, scores, names))
    if args.save_confusion:
        write(args.save_confusion, lambda path: confusion.draw(path, scores.confusion, names))
    for path in paths:
        logger.info(f"Wrote {path}")


if __name__ == "__main__":
    cli.run(main, flags())
