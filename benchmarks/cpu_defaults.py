"""What the package's CPU defaults are worth: the same work in a process with them and in one with Paddle's own.

python benchmarks/cpu_defaults.py [--repeats 3]
"""

import argparse
import json
import os
import subprocess
import sys
import time


def measure(ours: bool, repeats: int) -> dict:
    """Seconds of each piece of work in this process, the best of some repeats."""
    if ours:
        import paddleseg_encnet  # noqa: F401
    else:
        import zlib  # noqa: F401  or Paddle 2.6 crashes
    import paddle
    from paddleseg.models.backbones import ResNet18_vd

    paddle.set_device("cpu")
    network = ResNet18_vd(output_stride=8)
    images, matrix = paddle.randn([1, 3, 360, 480]), paddle.randn([2048, 2048])

    def forward():
        with paddle.no_grad():
            network(images)

    def step():
        network(images)[-1].mean().backward()
        network.clear_gradients()

    seconds = {}
    for name, work in (("2048 x 2048 matrix product", lambda: paddle.matmul(matrix, matrix)),
                       ("ResNet18_vd forward, 360 x 480", forward), ("the same, with backward", step)):
        work()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return seconds


def in_a_process(which: str, repeats: int) -> dict:
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    done = subprocess.run([sys.executable, __file__, "--measure", which, "--repeats", str(repeats)], env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--measure", choices=["paddle", "ours"], help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure == "ours", args.repeats)))
    else:
        stock, ours = (in_a_process(which, args.repeats) for which in ("paddle", "ours"))
        print(f"{'':32} {'Paddle':>9} {'ours':>9} {'ratio':>6}")
        for name in ours:
            print(f"{name:32} {stock[name]:8.3f}s {ours[name]:8.3f}s {stock[name] / ours[name]:5.1f}x")
