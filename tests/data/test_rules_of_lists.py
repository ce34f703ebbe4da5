"""Any list of files for a data set: exactly the pairs that were meant, or one line that says which line is wrong."""

import os

import numpy as np
import pytest
from hypothesis import strategies as st
from paddleseg.cvlibs import SegBuilder
from PIL import Image
from rules import rule

from paddleseg_encnet.data.checks import quick_check
from segrun.errors import DataError

IMAGES = ["a.png", "b c.png", "sub/d.png", "ü.png", "'e'.png", "f\"g.png", "back\\slash.png", "h,i.png", "j;k.png"]
LABELS = ["la.png", "l b.png", "sub/ld.png"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("lists")
    (root / "sub").mkdir()
    for i, name in enumerate(IMAGES):
        Image.fromarray(np.full((2, 3, 3), i, np.uint8)).save(root / name)
    for name in LABELS:
        Image.fromarray(np.uint8([[0, 1, 1], [1, 0, 0]])).save(root / name)
    return root


class Builder(SegBuilder):
    """Of one data set, as building.read_config makes it of a config."""

    def __init__(self, root, separator):
        super().__init__(None)
        self.config = Parts()
        self.config.train_dataset_cfg = {
            "type": "Dataset", "mode": "train", "dataset_root": str(root), "train_path": str(root / "list.txt"),
            "num_classes": 2, "transforms": [{"type": "Normalize"}], "separator": separator}


class Parts:
    val_dataset_cfg = {}


def paths(root, pairs) -> list:
    return [[os.path.join(str(root), name) for name in pair] for pair in pairs]


@rule(pairs=st.lists(st.tuples(st.sampled_from(IMAGES), st.sampled_from(LABELS)), min_size=1, max_size=5),
      separator=st.sampled_from([" ", "\t", ",", ";", "|", ", "]), bom=st.booleans(),
      end=st.sampled_from(["\n", "\r\n", " \n", "\n\n"]), last=st.booleans(),
      noise=st.sampled_from(["", "", "", "no label", "third column", "quotes", "another separator", "two separators"]))
def test_rule_lists_give_their_pairs_or_the_number_of_the_line(pairs, separator, bom, end, last, noise, root):
    lines = [separator.join(pair) for pair in pairs]
    lines[0] = {"no label": pairs[0][0], "third column": lines[0] + separator + "more",
                "quotes": separator.join(f'"{name}"' for name in pairs[0]),
                "another separator": "#".join(pairs[0]), "two separators": (2 * separator).join(pairs[0])
                }.get(noise, lines[0])
    (root / "list.txt").write_bytes(b"\xef\xbb\xbf" * bom + (end.join(lines) + end * last).encode())
    bad = [i for i, line in enumerate(lines) if [*map(str.strip, line.split(separator))] != [*pairs[i]]]
    blank = end == "\n\n" and (len(lines) > 1 or last)
    try:
        dataset = quick_check(Builder(root, separator), with_val=False)["train"]
    except DataError as error:
        assert "\n" not in str(error) and str(root) in str(error)
        assert bad or blank
        parts = [[part.strip() for part in line.split(separator)] for line in lines]
        uneven = [i for i in bad if len(parts[i]) != 2 or not all(parts[i])]
        if uneven or blank:         # else two names, of files that are not there
            number = 1 if 0 in uneven else 2 if blank else uneven[0] + 1
            assert f"list.txt, line {number}, has" in str(error)
    else:
        assert not bad and not blank
        assert dataset.file_list == paths(root, pairs)


@rule(content=st.one_of(
    st.binary(max_size=60), st.text(max_size=60), st.lists(st.tuples(
        st.sampled_from([*IMAGES, "", "gone.png", "/", ".", "..", "sub", "\0", "x" * 300, "sub\\d.png"]),
        st.sampled_from(["", " ", "\t", ",", "  "]), st.sampled_from(["", *LABELS, "gone.png", "sub", "a.png"])),
        max_size=5).map(lambda parts: "\n".join("".join(part) for part in parts))),
      separator=st.sampled_from([" ", "\t", ","]))
def test_rule_any_list_is_read_or_refused_in_one_line(content, separator, root):
    (root / "list.txt").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        dataset = quick_check(Builder(root, separator), with_val=False)["train"]
    except DataError as error:
        assert "\n" not in str(error) and "/" in str(error)        # the list, or a file that it names
    else:
        assert all(map(os.path.isfile, sum(dataset.file_list, [])))


