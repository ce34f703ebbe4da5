"""One number of channels for network and data, from the network's `in_channels`:

    model: {backbone: {type: ResNet50_vd, in_channels: 6}}

PaddleSeg wants it at the data sets of type Dataset too (`img_channels`), and takes 3 where it is missing; at the
transforms that do not suit it ends in the middle of an epoch.
"""

import inspect

from paddleseg_encnet.config.ignore_index import parts

MEDIAN = (1, 3, 4)      # channels that OpenCV's median takes at any width


def channels_of_config(config: dict) -> int:
    """How many channels the network's images have."""
    model = config["model"]
    channels = (model.get("backbone") or model).get("in_channels")
    return 3 if channels is None else channels


def give_in_channels(config: dict) -> None:
    """Gives the network's number to the data sets that take one, and looks at what does not suit it.

    Raises:
        ValueError: it is no number of channels; the images of a data set have another; or a transform is not for it.
    """
    channels = channels_of_config(config)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"in_channels in the config is {channels!r}: it must be a whole number, at least 1")
    for place, part, component in parts(config):
        if "img_channels" in inspect.signature(component).parameters:
            if channels != 3:
                part.setdefault("img_channels", channels)
            if part.get("img_channels", 3) != channels:
                raise ValueError(f"in_channels in the config is {channels}, but {place}.img_channels is "
                                 f"{part['img_channels']}: make them equal, or take the second out")
        fixed = getattr(component, "IMG_CHANNELS", channels)
        if fixed != channels:
            raise ValueError(f"in_channels in the config is {channels}, but {place}.type is {part['type']}, whose "
                             f"images have {fixed} channels: set in_channels to {fixed}, or use the type Dataset")
        check_transform(place, part, channels)


def check_transform(place: str, part: dict, channels: int) -> None:
    """Raises ValueError where a transform is not for so many channels."""
    kind = part["type"]
    if kind == "Normalize":
        for name in ("mean", "std"):
            values = part.get(name, [0.5])
            if isinstance(values, (list, tuple)) and len(values) not in (1, channels):
                raise ValueError(f"{place}.{name} of Normalize has {len(values)} numbers for images of {channels} "
                                 f"channels (in_channels): give 1 or {channels}")
    elif kind == "RandomDistort" and channels not in (1, 3):
        raise ValueError(f"{place} is RandomDistort, whose hue and saturation are of colours: images of {channels} "
                         "channels (in_channels) have none, so take it out")
    elif kind == "RandomBlur" and part.get("blur_type") in ("median", "random") and channels not in MEDIAN:
        raise ValueError(f"{place} is RandomBlur of blur_type {part['blur_type']}: OpenCV has no median of {channels} "
                         "channels (in_channels); set blur_type to gaussian or blur")
    elif kind == "Resize" and part.get("interp") in ("AREA", "RANDOM") and channels > 4:
        raise ValueError(f"{place} is Resize with interp {part['interp']}: OpenCV averages areas of up to 4 channels, "
                         f"not of {channels} (in_channels); set interp to LINEAR")
