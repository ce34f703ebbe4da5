"""Runs with a dashboard, and what VisualDL's own reader finds in their logs."""

import os
import pathlib

import paddle
import tiny_run
from conftest import tool

from segrun import command_line


def four_steps(config, folder: pathlib.Path) -> pathlib.Path:
    """A real run, evaluated at 2 and 4, by tools/train.py. Returns its folder."""
    train = tool("train")
    with paddle.utils.unique_name.guard():
        command_line.run_main(train.main, train.flags(), [str(argument) for argument in (
            "--config", config, "--device", "cpu", "--seed", 7, "--do_eval", "--use_vdl", "--save_interval", 2,
            "--log_iters", 1, "--save_dir", folder)])
    return folder


def logged_run(scenes, folder, **options):
    return tiny_run.run(scenes, folder, iters=12, save_interval=4, log_iters=2, use_vdl=True, **options)


def logs(folder) -> list:
    return sorted(name for name in os.listdir(folder) if "vdlrecords" in name)


def read(folder) -> dict:
    """{kind: {tag: [record, ...]}} of the one log of a folder, by VisualDL's own reader."""
    import visualdl
    name, = logs(folder)
    reader = visualdl.LogReader(file_path=os.path.join(folder, name))
    return {kind: {tag: reader.get_data(kind, tag) for tag in tags} for kind, tags in reader.get_tags().items()}


def steps(records) -> list:
    return [record.id for record in records]


def content(record):
    """A record without its time."""
    return getattr(record, record.WhichOneof("one_value"))
