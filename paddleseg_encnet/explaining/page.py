"""The pages of tools/explain.py: what context encoding did with an image, and what each codeword gathers over a set."""

from typing import List, Optional, Tuple

import cv2
import numpy as np

from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.explaining.charts import (
    SHARP,
    gamma_chart,
    lift_chart,
    limited,
    map_picture,
    mixture_picture,
    number,
    percentage,
    presence_chart,
    shares_of,
    viridis,
)
from paddleseg_encnet.explaining.explanations import Explanation, SetExplanation, common_pattern, use_of_codewords
from segrun import bands, drawing, fonts
from segrun.pages import Page, Picture, Section

LARGE, SMALL = 274, 130         # widths of pictures: 4 and 8 in a row of the PNG
STRONGEST = 3           # codewords that are drawn large, beside the picture of all
CHANNELS = 4            # of those raised most, and of those raised least
FACTORS_ALONE = 0.05    # codewords that move less of the image than this don't decide where it goes
LISTED = 24             # classes in the presence panel
MAP_CODES, MAP_CLASSES = 64, 40     # rows and columns of the heat map; the CSV has all

INTRODUCTION = (
    "EncNet looks at the image as a whole before it names the pixels. (1) Each position of the feature map is shared "
    "out among K trained codewords. (2) What is left of the features around each codeword, added up over the image, is "
    "the context. (3) The context says how much to raise each channel of the feature map, and which classes to expect. "
    "(4) The raised channels are classified, pixel by pixel.")


# --- one image -------------------------------------------------------------------------------------------------------

def image_page(explanation: Explanation, name: str, names: List[str], colors: np.ndarray,
               label: Optional[np.ndarray] = None, classifier: Optional[np.ndarray] = None) -> Page:
    """The page of one image.

    Args:
        name: of the image, for the title.
        names, colors: of the classes; uint8 [N, 3], RGB.
        label: uint8 [H, W], 255 where there is no class.
        classifier: float32 [num_classes, C], the weights that turn channels into logits.
    """
    sections = [scene(explanation, names, colors, label), codewords_section(explanation),
                presence(explanation, names, label), attention_section(explanation),
                *channels(explanation, names, classifier)]
    return Page(f"What EncNet saw in {name}", [INTRODUCTION], sections)


def scene(explanation: Explanation, names: List[str], colors: np.ndarray, label: Optional[np.ndarray]) -> Section:
    image, ids = explanation.image, explanation.ids
    shares = shares_of(ids, len(names))
    shown = [int(c) for c in np.argsort(-shares, kind="stable") if shares[c] > 0]
    width = 370 if label is None else LARGE
    seen = ", ".join(f"{names[c]} {percentage(shares[c])}" for c in shown)
    pictures = [Picture(limited(image), width, "Image", "The image", photo=True),
                Picture(limited(drawing.colorize(ids, colors)), width, "Prediction", f"The prediction: {seen}")]
    if label is not None:
        pictures.append(Picture(limited(drawing.colorize(label, colors)), width, "Label", "The label"))
        shown += [int(c) for c in np.unique(label) if c not in shown]       # 255, no class, is called unknown
    legend = drawing.draw_legend(names, colors, shown, width * SHARP, SHARP)
    named = ", ".join(names[c] for c in shown if c < len(names))
    pictures.append(Picture(legend, legend.shape[1] // SHARP, "", f"Legend: {named}"))
    return Section("Image and prediction", ["What came out: the class of each pixel."], pictures)


def codewords_section(explanation: Explanation) -> Section:
    title = "Codewords: how the image is shared out"
    codes, scale, moved = explanation.codes, explanation.scale, explanation.moved
    if explanation.assignment is None or codes is None or scale is None or moved is None:
        return Section(title, ["This network has no codewords (num_codes is 0): its context is the mean of the "
                               "features over the image."], [])
    shares, use = explanation.codeword_shares(), use_of_codewords(explanation)
    count, order = len(shares), np.argsort(-shares, kind="stable")
    totals = codes.sum(axis=1)
    context = totals / totals.sum() if totals.sum() > 0 else np.zeros(count)
    text = [
        f"Each map shows what share of each position one of the {count} codewords takes, from dark (none) to yellow "
        "(the largest share in that map, given below it: each map has a scale of its own). At every position the "
        "shares of all codewords add up to 1. Strongest first: by their share of all positions. A codeword's factor, "
        "times its squared distance from a feature, is what the softmax is taken of.",
        f"How many are used? The shares are as uneven as if {use.used:.1f} of {count} codewords were used evenly, at "
        f"one position {use.alike:.1f}: which codeword it is tells {use.information:.2f} nats of where one is. Do they "
        f"differ? {percentage(common_pattern(explanation))} of what the {count} maps show is one pattern, or its "
        "negative. Do the "
        f"codewords decide? If all were one vector, {percentage(moved)} of the image would go to another "
        "codeword"
        + (": so here the trained factors decide, by how far a feature lies from that vector."
           if moved < FACTORS_ALONE else ".")]
    said = "All codewords at once, each in a colour, mixed at a position by their shares. One colour everywhere: " \
           "they tell nothing of where one is"
    pictures = [Picture(mixture_picture(explanation, LARGE), LARGE, said, f"Mixture of the {count} codewords")]
    for place, k in enumerate(order):
        large = place < STRONGEST
        values, most = explanation.assignment[k], float(explanation.assignment[k].max())
        width = LARGE if large else SMALL
        said = f"{percentage(shares[k])} of the image"
        caption = f"{k}: {said}; yellow {number(most)}"
        if large:
            caption = f"Codeword {k}: {said}, {percentage(context[k])} of the context; yellow is {number(most)}; " \
                      f"factor {scale[k]:.2f}"
        pictures.append(Picture(map_picture(explanation, values, most, width), width, caption,
                                f"Map of codeword {k}: {said}, at most {number(most)} of a position"))
    return Section(title, text, pictures)


def presence(explanation: Explanation, names: List[str], label: Optional[np.ndarray]) -> Section:
    title = "Presence: which classes the context tells to expect"
    believed = explanation.presence
    if believed is None:
        return Section(title, ["This network has no SE branch (use_se_loss is False), which would say what classes it "
                               "believes present."], [])
    shares = shares_of(explanation.ids, len(names))
    labelled = None if label is None else shares_of(label, len(names)) > 0
    order = [int(c) for c in np.argsort(-believed, kind="stable")]
    kept = sorted(order, key=lambda c: (shares[c] == 0 and not (labelled is not None and labelled[c]),
                                        -believed[c]))[:LISTED]
    kept = [c for c in order if c in kept]
    text = ["From the context alone, without a look at single pixels, a trained branch gives each class a probability "
            "to be in the image (blue). Beside it, what share of the pixels was then predicted as the class (orange)"
            + (", and whether the label has it." if label is not None else ".")]
    if len(kept) < len(names):
        seen = "predicted" if label is None else "predicted or in the label"
        text.append(f"{len(kept)} of {len(names)} classes: those {seen}, then those believed most.")
    said = "; ".join(f"{names[c]} {believed[c]:.2f}, {percentage(shares[c])} of the pixels"
                     + ("" if labelled is None else ", in the label" if labelled[c] else ", not in the label")
                     for c in kept)
    written = fonts.shown(names)
    with fonts.in_charts(written):
        chart = presence_chart(believed[kept], shares[kept], [written[c] for c in kept],
                               None if labelled is None else labelled[kept])
    return Section(title, text, [Picture(chart, chart.shape[1] // SHARP, "", f"Probability of presence: {said}")])


def attention_section(explanation: Explanation) -> Section:
    gamma = explanation.gamma
    chart = gamma_chart(gamma)
    text = [f"The context gives each of the {len(gamma)} channels a gamma from 0 to 1, and the channel is multiplied "
            "by 1 + gamma: none falls below what it was, so that what is raised least is lowered against the rest."]
    return Section("Attention: how much the context raises each channel", text,
                   [Picture(chart, chart.shape[1] // SHARP, "", f"Gamma of the channels, sorted: from "
                            f"{gamma.max():.2f} to {gamma.min():.2f}, mean {gamma.mean():.2f}")])


def channels(explanation: Explanation, names: List[str], classifier: Optional[np.ndarray]) -> List[Section]:
    gamma = explanation.gamma
    order = np.argsort(-gamma, kind="stable")
    count = min(CHANNELS, len(gamma) // 2)
    explained = "Each pair is a channel before and after, in one scale."
    if classifier is not None:
        explained += " The class named is the one that the classifier takes the channel for most."
    sections = []
    for words, chosen, text in (("raised most", order[:count], [explained]), ("raised least", order[::-1][:count], [])):
        pictures = []
        for c in chosen:
            speaks = "" if classifier is None else f"; for {names[int(classifier[:, c].argmax())]}"
            caption = f"Channel {c}: gamma {gamma[c]:.2f}{speaks}"
            pictures.append(Picture(before_and_after(explanation, c), LARGE, caption, f"{caption}. Before and after"))
        sections.append(Section(f"Channels {words}", text, pictures))
    return sections


def before_and_after(explanation: Explanation, channel: int) -> np.ndarray:
    """A channel's two maps side by side, in one scale."""
    before, after = explanation.before[channel], explanation.after[channel]
    most = float(np.percentile(after, 99))      # single positions, often at the border, would leave the rest dark
    half = (LARGE - 4) // 2
    maps = [map_picture(explanation, values, most, half) for values in (before, after)]
    return np.concatenate([maps[0], drawing.paper(len(maps[0]), 4), maps[1]], axis=1)


# --- a set of images -------------------------------------------------------------------------------------------------

def set_page(over_set: SetExplanation, name: str, names: List[str]) -> Page:
    """The page of a set of images: which classes each codeword gathers, and what the attention does.

    Args:
        name: of the set, for the title.
    """
    images = f"{len(over_set.paths)} image{'s' if len(over_set.paths) > 1 else ''}"
    return Page(f"What EncNet's codewords gather in {name}", [f"{images}. {INTRODUCTION}"],
                [classes_of_codewords(over_set, names), *images_of_codewords(over_set), attention_over_set(over_set)])


def classes_of_codewords(over_set: SetExplanation, names: List[str]) -> Section:
    shares, lift, of_all = over_set.codeword_shares(), over_set.lift(), over_set.pixels / over_set.pixels.sum()
    use = over_set.statistics.use()
    rows = np.argsort(-shares, kind="stable")[:MAP_CODES]
    columns = np.argsort(-of_all, kind="stable")[:MAP_CLASSES]
    columns = columns[of_all[columns] > 0]
    text = ["A number says how many times as much the codeword takes of the pixels predicted as the class as it takes "
            "of all pixels: 1 is as much as anywhere, 2 twice as much, 0.5 half. So neither a common class nor a "
            "strong codeword stands out by that alone. Rows that look alike gather the same. Rows: the strongest "
            "codeword first, with its share of all pixels. Columns: the most frequent class first, with its share.",
            f"The codebook is used as {use.used:.1f} of {len(shares)} codewords would be that are used evenly, at one "
            f"position {use.alike:.1f}; which codeword it is tells {use.information:.2f} nats of where one is."]
    if len(rows) < len(shares) or len(columns) < len(names):
        text.append(f"{len(rows)} of {len(shares)} codewords and {len(columns)} of {len(names)} classes are drawn: the "
                    "strongest, and the most frequent that were predicted; the CSV file has all.")
    written = fonts.shown(names)
    with fonts.in_charts(written):
        chart = lift_chart(lift[np.ix_(rows, columns)], [f"{k}   {percentage(shares[k])}" for k in rows],
                           [f"{written[c]}   {percentage(of_all[c])}" for c in columns])
    most = "; ".join(f"codeword {k} most of {names[int(np.nanargmax(lift[k]))]} ({number(np.nanmax(lift[k]))} times)"
                     for k in rows[:STRONGEST] if shares[k] > 0)
    width = min(1140, chart.shape[1] // SHARP)
    return Section("Classes that each codeword gathers", text, [Picture(chart, width, "", f"Heat map: {most}")])


def images_of_codewords(over_set: SetExplanation) -> List[Section]:
    text = ["For each, the images that it takes the largest share of, and its map there, from dark (none) to yellow "
            "(the largest share in that map)."]
    pictures, shares = [], over_set.codeword_shares()
    for k in np.argsort(-shares, kind="stable")[:STRONGEST]:
        for best in over_set.best[k] if shares[k] > 0 else []:
            most = float(best.map.max())
            pair = [thumbnail(best.path, over_set.channels, best.map.shape), viridis(best.map, most)]
            caption = f"Codeword {k}: {percentage(best.share)} of this image; yellow is {number(most)}"
            pictures.append(Picture(np.concatenate(pair, axis=1), 370, caption,
                                    f"An image and the map of codeword {k} in it", photo=True))
    return [Section("Where the strongest codewords are strongest", text, pictures)]


def attention_over_set(over_set: SetExplanation) -> Section:
    title = "Channels whose attention changes most from image to image"
    gammas = np.array(over_set.gammas)                                                      # [images, C]
    if len(gammas) < 2:
        return Section(title, ["One image has nothing to be compared with."], [])
    deviation = gammas.std(axis=0)
    text = [f"From image to image, gamma has a standard deviation of {deviation.mean():.3f} in the mean over the "
            f"channels; from channel to channel, its mean over the images has one of {gammas.mean(axis=0).std():.3f}. "
            "The channels that change most, with the image where the network raises each most and the one where least:"]
    pictures = []
    for c in np.argsort(-deviation, kind="stable")[:3]:
        for word, i in (("most", int(gammas[:, c].argmax())), ("least", int(gammas[:, c].argmin()))):
            caption = f"Channel {c}, raised {word}: gamma {gammas[i, c]:.2f}, mean {gammas[:, c].mean():.2f}"
            image = limited(rgb(over_set.paths[i], over_set.channels), 360)
            pictures.append(Picture(image, 178, caption, caption, photo=True))
    return Section(title, text, pictures)


def thumbnail(path: str, channels: int, size: Tuple[int, int]) -> np.ndarray:
    return cv2.resize(rgb(path, channels), size[::-1], interpolation=cv2.INTER_AREA)


def rgb(path: str, channels: int) -> np.ndarray:
    return bands.shown(read_image(path, channels))
