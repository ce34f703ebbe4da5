"""What exporting a trained network costs in accuracy: scores of the live network and of each form of its export.

python benchmarks/export_accuracy.py --config CONFIG --model_path WEIGHTS --deploy output/inference_model/deploy.yaml
"""

import argparse

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle

from paddleseg_encnet.config import building
from paddleseg_encnet.deployment.export import forms
from paddleseg_encnet.flags import run
from paddleseg_encnet.weights import checkpoint
from segrun import cpu
from segrun.preprocess import Deployed, Images
from segrun.progress import Progress
from segrun.scoring import confusion_matrix, scores


def main(args):
    paddle.set_device("cpu")
    builder = building.read(args.config, args.opts, pretrained=False)
    dataset, network = builder.val_dataset, builder.model
    checkpoint.load(network, args.model_path)
    network.eval()

    def live(batch):
        with paddle.no_grad():
            return network(paddle.to_tensor(batch))[0].numpy()

    images = Images(args.deploy)
    runs = {"live": live}
    runs.update((name, Deployed(args.deploy, threads=cpu.cpu_count(), **options).run)
                for name, options in forms(images.deploy).items())
    size = dataset.num_classes
    matrices = {name: np.zeros((size, size), dtype=np.int64) for name in runs}
    agreeing, pixels = dict.fromkeys(runs, 0), 0
    progress = Progress(len(dataset.file_list[::args.every]), "images")
    for index in range(0, len(dataset.file_list), args.every):
        batch, history = images.prepare(dataset.file_list[index][0])
        label = np.asarray(dataset[index]["label"])
        found = {name: images.finish(run(batch[np.newaxis])[0], history) for name, run in runs.items()}
        for name, classes in found.items():
            matrices[name] += confusion_matrix(label.reshape(classes.shape), classes, size, dataset.ignore_index)
            agreeing[name] += int((classes == found["live"]).sum())
        pixels += classes.size
        progress.advance()
    progress.close()
    print(f"{'':20} {'mIoU':>8} {'pixels right':>13} {'agree with live':>16}")
    for name, matrix in matrices.items():
        result = scores(matrix)
        print(f"{name:20} {result.mean_iou:8.2%} {result.accuracy:13.2%} {agreeing[name] / pixels:16.3%}")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", required=True)
    flags.add_argument("--model_path", required=True, help="weights that were exported")
    flags.add_argument("--deploy", required=True, help="deploy.yaml of the export")
    flags.add_argument("--every", type=int, default=1, help="take every n-th validation image")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE")
    flags.add_argument("--debug", action="store_true")
    run(main, flags)
