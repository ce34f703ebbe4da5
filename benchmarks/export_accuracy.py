"""What exporting a trained network costs in accuracy: scores of the live network and of each form of its export.

python benchmarks/export_accuracy.py --config CONFIG --model_path WEIGHTS --deploy output/inference_model/deploy.yaml
"""

import argparse

import paddleseg_encnet  # noqa: F401

# isort: split

import paddle

from paddleseg_encnet.config import building
from paddleseg_encnet.data.label_files import label_of_config
from paddleseg_encnet.flags import run_main
from paddleseg_encnet.live import LiveNetwork, classes_of_config
from paddleseg_encnet.weights import checkpoint
from segrun import cpu
from segrun.backends import forms_of
from segrun.backends.exported import Exported
from segrun.exports import Export
from segrun.scoring import score_network
from segrun.segmenter import Segmenter


def main(args):
    paddle.set_device("cpu")
    builder = building.read_config(args.config, args.opts, pretrained=False)
    config, network = builder.config, builder.model
    checkpoint.fill_layer(network, args.model_path)
    export, classes = Export(args.deploy), classes_of_config(config)
    networks = {"live": LiveNetwork(network, builder.preprocessing, classes)}
    for form in forms_of(export.content):
        networks[form.name] = Exported(export, form.backend, form.precision, "cpu", cpu.cpu_count())
    labels = dict(builder.val_dataset.file_list[::args.every])

    def read(path, size):
        return label_of_config(path, size, len(classes.names), config)
    print(f"{'':20} {'mIoU':>8} {'pixels right':>13} {'agree with live':>16}")
    live = {}
    for name, each_network in networks.items():
        seen = {}
        result = score_network(Segmenter.of(each_network, confidence=False), labels, read,
                               lambda found, seen=seen: seen.update({found.source: found.ids}))
        live = live or seen
        agreeing = sum(int((ids == live[path]).sum()) for path, ids in seen.items())
        pixels = sum(ids.size for ids in seen.values())
        print(f"{name:20} {result.mean_iou:8.2%} {result.accuracy:13.2%} {agreeing / pixels:16.3%}")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", required=True)
    flags.add_argument("--model_path", required=True, help="weights that were exported")
    flags.add_argument("--deploy", required=True, help="deploy.yaml of the export")
    flags.add_argument("--every", type=int, default=1, help="take every n-th validation image")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE")
    flags.add_argument("--debug", action="store_true")
    run_main(main, flags)
