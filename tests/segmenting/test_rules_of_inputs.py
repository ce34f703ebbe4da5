"""What stands in any list of images; and the names of what is written of them."""

import os

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st
from rules import one_clear_line, rule

from segrun import inputs

NAMES = ["a.jpg", "b c.png", "sub/d.png", "ü.png", "'e'.png", "f\"g.png", "back\\slash.png"]
LABEL = "label.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    for name in [*NAMES, LABEL]:
        (folder / name).write_bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes())
    return folder


def spaced(name: str) -> bool:
    return " " in name


@rule(lines=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=6),
      tab=st.booleans(), bom=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n", " \n", "\t\n"]),
      last=st.booleans())
def test_rule_lists_name_what_they_name(lines, tab, bom, end, last, pictures):
    """With a tab between image and label, or spaces where no name has any."""
    written = [name + (("\t" if tab or spaced(name) else "  ") + LABEL if labelled else "") for name, labelled in lines]
    text = end.join(written) + end * last
    (pictures / "list.txt").write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    found, root, labelled = inputs.find_images(str(pictures / "list.txt"))
    expected = {os.path.join(str(pictures), name): with_label for name, with_label in lines}
    assert found == sorted(expected) and root == str(pictures)
    assert labelled == {image: os.path.join(str(pictures), LABEL) for image, with_label in expected.items()
                        if with_label}


@rule(content=st.one_of(
    st.binary(max_size=60), st.text(max_size=60), st.lists(st.tuples(
        st.sampled_from([*NAMES, "", "gone.png", "/", ".", "..", "sub", "\0", "x" * 300, "sub\\d.png"]),
        st.sampled_from(["", " ", "\t", ",", ";", "  ", "\t\t"]), st.sampled_from(["", LABEL, "gone.png", "sub"])),
        max_size=5).map(lambda parts: "\n".join("".join(part) for part in parts))))
def test_rule_any_list_names_files_or_is_refused(content, pictures):
    path = pictures / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with one_clear_line(str(path)):
        found, _, labelled = inputs.find_images(str(path))
        assert found and all(map(os.path.isfile, [*found, *labelled.values()]))
        inputs.output_names(found, str(pictures))


@rule(names=st.lists(st.lists(st.sampled_from(["a", "b", "a.png", "b.jpg", "a.jpg", ".", "..", "c.d.png"]), min_size=1,
                              max_size=3).map("/".join), min_size=1, max_size=6, unique=True),
      root=st.sampled_from([None, "", "a", "/", "a/b"]))
def test_rule_no_two_images_have_the_same_pictures(names, root):
    try:
        found = inputs.output_names(names, root)
    except ValueError as error:
        assert "would be written to the same pictures" in str(error)
        return
    stems = [os.path.splitext(name)[0] for name in found.values()]
    assert list(found) == names and len(set(stems)) == len(names)
