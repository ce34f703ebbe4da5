"""One number of channels for network and data, and what does not suit it is refused."""

import pytest

from paddleseg_encnet.config import in_channels


def config(channels, *transforms, dataset="Dataset", **more) -> dict:
    part = {"type": dataset, "transforms": list(transforms), **more}
    return {"model": {"type": "ENCNet", "backbone": {"type": "ResNet18_v1b", "in_channels": channels}},
            "train_dataset": part, "val_dataset": {"type": dataset, "transforms": []}}


def test_the_networks_number_reaches_the_data():
    settled = config(6, {"type": "Normalize", "mean": [0.5] * 6, "std": [0.5]}, {"type": "RandomBlur"})
    in_channels.give_in_channels(settled)
    assert [settled[name]["img_channels"] for name in ("train_dataset", "val_dataset")] == [6, 6]
    assert in_channels.channels_of_config(settled) == 6
    assert in_channels.channels_of_config({"model": {"type": "SegNet", "in_channels": 4}}) == 4
    plain = config(3, dataset="Cityscapes")
    in_channels.give_in_channels(plain)
    assert plain == config(3, dataset="Cityscapes")
    assert in_channels.channels_of_config({"model": {"type": "SegNet"}}) == 3


@pytest.mark.parametrize("wrong, said", [
    (config(0), "in_channels in the config is 0: it must be a whole number, at least 1"),
    (config("6"), "in_channels in the config is '6'"),
    (config(4, img_channels=3), r"in_channels in the config is 4, but train_dataset.img_channels is 3"),
    (config(4, dataset="Cityscapes"), r"train_dataset.type is Cityscapes, whose images have 3 channels"),
    (config(6, {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}),
     r"train_dataset.transforms\[0\].mean of Normalize has 3 numbers for images of 6 channels"),
    (config(3, {"type": "Normalize", "std": [0.5] * 4}), r"std of Normalize has 4 numbers for images of 3 channels"),
    (config(4, {"type": "RandomDistort"}), "RandomDistort, whose hue and saturation .* images of 4 channels"),
    (config(6, {"type": "RandomBlur", "blur_type": "random"}), "OpenCV has no median of 6 channels"),
    (config(6, {"type": "Resize", "interp": "AREA"}), "averages areas of up to 4 channels, not of 6")])
def test_what_does_not_suit_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        in_channels.give_in_channels(wrong)
