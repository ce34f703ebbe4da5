"""Any config of ours with keys dropped, renamed, retyped, moved: it runs, or one clear line says what is wrong."""

import copy
import importlib

import paddle
import pytest
import yaml
from hypothesis import strategies as st
from paddleseg.cvlibs import manager
from rules import one_clear_line, rule
from shrunk_recipes import CONFIGS, Narrow, roots_of, shrunk

from paddleseg_encnet.training.training_of_config import train

# Values of another type or size than any key has, and some that many keys have.
VALUES = st.sampled_from([
    None, True, False, 0, 1, -1, 2, 3, 1.5, 0.0, 5.0, float("nan"), float("inf"), "", "abc", "5e-4", "0.5", [], [1],
    [1, 2, 3], [[1]], ["a"], {}, {"a": 1}, {"type": "Normalize"}, {"type": "SGD"}, "Normalize", "CrossEntropyLoss",
    [{"type": "Normalize"}], "a\nb", "*", "5: 6"])


def offline(**options):
    raise OSError(f"no connection: {options.get('url')} can't be downloaded")


def places(config, path=()):
    """The path of every key and list entry."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(config, path):
    for key in path:
        config = config[key]
    return config


def drop(config, path, value):
    del at(config, path[:-1])[path[-1]]


def rename(config, path, value):
    """Letters changed, as typing errors do; or a name that has nothing to do with it."""
    part = at(config, path[:-1])
    if isinstance(part, dict):
        key = str(path[-1])
        part[value if isinstance(value, (int, float, str)) else key[:-1] + "x"] = part.pop(path[-1])


def retype(config, path, value):
    at(config, path[:-1])[path[-1]] = copy.deepcopy(value)


def as_text(config, path, value):
    part = at(config, path[:-1])
    part[path[-1]] = str(part[path[-1]])


def in_a_list(config, path, value):
    part = at(config, path[:-1])
    part[path[-1]] = [part[path[-1]]]


def twice(config, path, value):
    """A list entry, or a value in place of its neighbour's."""
    part = at(config, path[:-1])
    if isinstance(part, list):
        part.append(copy.deepcopy(part[path[-1]]))
    else:
        other = sorted(part, key=str)[len(str(value)) % len(part)]
        part[other] = copy.deepcopy(part[path[-1]])


CHANGES = [drop, rename, retype, retype, as_text, in_a_list, twice]


@pytest.fixture(scope="module")
def configs(tmp_path_factory, scenes):
    """Each config, shrunk, by name; those of a network, data set and recipe that others have too are left out."""
    found, kinds, roots = {}, set(), roots_of(tmp_path_factory.mktemp("published"), scenes)
    for path in CONFIGS:
        config = shrunk(path, roots)
        kind = (config["model"]["type"], config["train_dataset"]["type"], config["model"].get("use_jpu"))
        if kind not in kinds:
            kinds.add(kind)
            for name in ("train_dataset", "val_dataset"):
                for transform in config[name]["transforms"]:
                    if "crop_size" in transform:
                        transform["crop_size"] = [32, 32]
            if "mid_channels" in config["model"]:
                config["model"].update(mid_channels=4, num_codes=2)
            found[path.stem] = {**config, "iters": 1, "batch_size": 2}
    return found


@pytest.fixture(scope="module")
def changed_and_run(configs, tmp_path_factory):
    """changed_and_run(number, changes): trains one step and scores, in one clear line where that does not do."""
    folder, names = tmp_path_factory.mktemp("changed"), sorted(configs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(manager.BACKBONES.components_dict, "Narrow", Narrow)
        for name in ("ade", "voc"):         # a data set without its folder is downloaded
            patch.setattr(importlib.import_module(f"paddleseg.datasets.{name}"), "download_file_and_uncompress",
                          offline)

        def run(number: int, changes: list):
            config = copy.deepcopy(configs[names[number % len(names)]])
            for change, where, value in changes:
                paths = list(places(config))
                if paths:
                    change(config, paths[where % len(paths)], value)
            if isinstance(config.get("iters"), int):
                config["iters"] = min(config["iters"], 3)       # ignore_index is 255
            path = folder / "changed.yml"
            path.write_text(yaml.safe_dump(config, sort_keys=False))
            with one_clear_line(), paddle.utils.unique_name.guard():
                train(path, folder / "run", device="cpu", seed=1, do_eval=True, no_data_check=False)
        yield run


@rule(number=st.integers(0, 999), changes=st.lists(
    st.tuples(st.sampled_from(CHANGES), st.integers(0, 999), VALUES), min_size=1, max_size=2))
def test_rule_a_changed_config_runs_or_says_what_is_wrong(changed_and_run, number, changes):
    changed_and_run(number, changes)


@rule(text=st.one_of(
    st.text(max_size=60), st.binary(max_size=60),
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5)),
                 lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
                     ["_base_", "_inherited_", "model", "iters", "loss", "type", "train_dataset", "optimizer",
                      "lr_scheduler", "batch_size", "types", "coef"]), inner, max_size=8)), max_leaves=20).map(
        yaml.safe_dump)))
def test_rule_any_text_as_a_config_is_refused_in_one_line(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    ran = False
    with one_clear_line():
        train(path, tmp_path_factory.getbasetemp() / "run", device="cpu")
        ran = True
    assert not ran
