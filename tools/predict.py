"""Predicts images and videos:

python tools/predict.py --config CONFIG --model_path WEIGHTS --image_path IMAGE_FOLDER_LIST_VIDEO_OR_WEBCAM
"""

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg.transforms import Compose
from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.pictures.palettes import PALETTES
from paddleseg_encnet.prediction import inputs, outputs, predictor
from paddleseg_encnet.prediction.video import predict_camera, predict_video
from paddleseg_encnet.runtime.devices import Ranks, select_device
from paddleseg_encnet.weights import checkpoint


def flags():
    flags = cli.parser("Model prediction", "--config encnet_quick_start --model_path output/best_model/model.pdparams\n"
                       "--image_path data/scenes/leftImg8bit/val")
    flags.add_argument("--model_path", required=True, help="weights to predict with")
    flags.add_argument("--image_path", required=True, help="an image, a folder, a video, a webcam's number, or a list: "
                       "a text file with an image a line, and its label behind it")
    flags.add_argument("--save_dir", default="./output/result", help="folder for the pictures")
    flags.add_argument("--save", nargs="+", choices=list(outputs.FOLDERS), metavar="KIND",
                       help=f"pictures to save: {', '.join(outputs.FOLDERS)} (default: overlay palette)")
    flags.add_argument("--alpha", type=float, default=0.4, help="weight of the colours in overlays, 0 to 1")
    flags.add_argument("--min_conf", type=float, default=0.0, metavar="T",
                       help="classes of a probability below T become 255")
    flags.add_argument("--palette", choices=sorted(PALETTES), metavar="SET", help="names and colours of another "
                       f"data set: {', '.join(sorted(PALETTES))}")
    flags.add_argument("--custom_color", nargs="+", type=int, metavar="V", help="R G B of class 0, of class 1, ...")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    flags.add_argument("--max_frames", type=int, default=0, metavar="N", help="of a webcam; else until Ctrl-C")
    cli.add_inference_flags(flags, "aug_pred")
    return flags


def main(args):
    for name in ("alpha", "min_conf"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} must be from 0 to 1, is {getattr(args, name)}")
    video, camera = inputs.is_video(args.image_path), inputs.is_camera(args.image_path)
    if args.max_frames < 0 or (args.max_frames and not camera):
        raise ValueError(f"--max_frames is the number of frames to take from a webcam, at least 1, got "
                         f"{args.max_frames} for {args.image_path}")
    builder = cli.build(args)
    cli.leave_out_pretrained(builder.config)
    config = builder.config
    options = cli.test_options(config, args)
    style = predictor.style_of(config, args.palette, args.custom_color, args.alpha)
    if (video or camera) and set(args.save or ["overlay"]) != {"overlay"}:
        raise ValueError("of a video only the overlay is saved; leave --save out")
    kinds = args.save or outputs.DEFAULT
    images, root, labels = ([], None, {}) if video or camera else inputs.find_images(args.image_path)
    names = inputs.output_names(images, root)       # before the weights are read: do the names collide?
    outputs.check_writable(args.save_dir, ["overlay"] if video or camera else kinds)

    utils.show_env_info()
    utils.show_cfg_info(config)
    select_device(args.device if ":" in args.device or args.device == "cpu" else f"{args.device}:{args.device_id}")
    ranks = Ranks.join()
    model = builder.model
    checkpoint.load(model, args.model_path)
    transforms = Compose(builder.val_transforms, img_channels=channels.of(config.dic))
    network = predictor.Predictor(model, transforms, "confidence" in kinds, args.min_conf, **options)
    if video or camera:
        logger.info(f"Loaded {args.model_path}")
        if ranks.first and video:
            predict_video(network, args.image_path, args.save_dir, style)
        elif ranks.first:
            predict_camera(network, int(args.image_path), args.save_dir, style, args.max_frames)
        ranks.meet()
        return
    logger.info(f"Loaded {args.model_path}; the number of images: {len(images)}")
    for line in filter(None, (inputs.passed_over(args.image_path), inputs.kept_endings(names))):
        logger.info(line)
    if "comparison" in kinds:
        labels = {**predictor.labels_in_dataset(builder, images), **labels}
    dataset = config.val_dataset_cfg
    predictor.predict(network, images, root, args.save_dir, style, kinds, labels,
                      predictor.VALUE_OF_CLASS_0.get(dataset.get("type"), 0), dataset.get("ignore_index", 255))


if __name__ == "__main__":
    cli.run(main, flags())
