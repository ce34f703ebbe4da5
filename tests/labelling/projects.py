"""Small labelling projects in the files of each tool, and their masks drawn without the code that is tested."""

import base64
import io
import json
import math
import pathlib

import numpy as np
from PIL import Image, ImageDraw

SIZE = (48, 64)         # height, width
COLORS = {"background": (0, 0, 0), "car": (128, 0, 0), "tree": (0, 128, 0), "window": (10, 200, 250)}


def photo(path: pathlib.Path, seed: int, orientation: int = 1, size=SIZE):
    """A picture of blocks in random colours; no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    picture, exif = Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)), Image.Exif()
    exif[0x112] = orientation
    picture.save(path, **({"exif": exif} if orientation != 1 else {}))


def polygon(random, size=SIZE, corners: int = 6) -> list:
    """A star-shaped polygon [[x, y], ...], which now and then leaves the image a little."""
    centre = random.uniform(0.2, 0.8, 2) * size[::-1]
    angles = np.sort(random.uniform(0, 2 * math.pi, corners))
    reach = random.uniform(6, 0.5 * min(size), corners)
    return np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles)], 1).round(2).tolist()


def shape(label: str, points: list, kind: str = "polygon", **more) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def as_base64(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme_json(path: pathlib.Path, image: str, shapes: list, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image,
                                "imageData": None, "imageHeight": size[0], "imageWidth": size[1]}))


def labelme(root: pathlib.Path, count: int = 10) -> dict:
    """Photographs with polygons, rectangles, circles and a mask; {name: shapes}."""
    written = {}
    for i in range(count):
        random = np.random.default_rng(i)
        x, y = random.uniform(10, 40, 2).round(1).tolist()
        part = random.random((9, 12)) < 0.5
        shapes = [shape("tree", polygon(random)), shape("car", polygon(random, corners=9)),
                  shape("window", [[x, y], [x - 8.5, y + 6]], "rectangle"),
                  shape("car", [[y, x], [y + 3, x + 4]], "circle"),
                  shape("tree", [[3, 30], [14, 38]], "mask", mask=as_base64(part))]
        photo(root / f"{i:02d}.jpg", i)
        labelme_json(root / f"{i:02d}.json", f"{i:02d}.jpg", shapes)
        written[f"{i:02d}"] = shapes
    return written


def paint(shapes: list, ids: dict, size=SIZE, rest: int = 0) -> np.ndarray:
    """The mask of labelme's shapes, each painted over the ones before, on one canvas of numbers."""
    canvas = Image.new("L", size[::-1], rest)
    pencil = ImageDraw.Draw(canvas)
    for one in shapes:
        number, points = ids[one["label"]], [tuple(point) for point in one["points"]]
        if one["shape_type"] == "rectangle":
            (a, b), (c, d) = points
            pencil.rectangle([min(a, c), min(b, d), max(a, c), max(b, d)], fill=number, outline=number)
        elif one["shape_type"] == "circle":
            (a, b), (c, d) = points
            radius = math.sqrt((a - c) ** 2 + (b - d) ** 2)
            pencil.ellipse([a - radius, b - radius, a + radius, b + radius], fill=number, outline=number)
        elif one["shape_type"] == "mask":
            part = Image.open(io.BytesIO(base64.b64decode(one["mask"]))).convert("1")
            canvas.paste(number, tuple(map(int, points[0])), part)
        else:
            pencil.polygon(points, fill=number, outline=number)
    return np.array(canvas)


def run_lengths(mask: np.ndarray) -> list:
    """Column by column, zeros first."""
    runs, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def ring(size=SIZE, centre=(30, 20), outer=14, inner=6) -> np.ndarray:
    """A disc with a hole, bool [H, W]."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    distance = np.hypot(columns - centre[0], rows - centre[1])
    return (distance <= outer) & (distance > inner)


def coco(root: pathlib.Path, count: int = 10) -> dict:
    """Photographs in photos/ and instances.json with polygons of one and two parts, run lengths of a ring compressed
    and not, and a crowd; the content of the file."""
    from pycocotools import mask as coco_mask
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "tree"}, {"id": 2, "name": "car"},
                                                               {"id": 90, "name": "window"}]}
    for i in range(count):
        random, name = np.random.default_rng(100 + i), f"{i:02d}.jpg"
        photo(root / "photos" / name, 100 + i)
        content["images"].append({"id": 1000 + i, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        flat = [[value for point in polygon(random) for value in point] for _ in range(3)]
        hole, other = ring(centre=(20 + i, 22)), ring(centre=(44, 30 - i), outer=9, inner=3)
        packed = coco_mask.encode(np.asfortranarray(other.astype(np.uint8)))
        crowd = np.zeros(SIZE, bool)
        crowd[-6:, 4:20] = True
        for category, segmentation, is_crowd in (
                (2, flat[:2], 0), (7, flat[2:], 0), (90, {"size": list(SIZE), "counts": run_lengths(hole)}, 0),
                (2, {"size": list(SIZE), "counts": packed["counts"].decode()}, 0),
                (7, {"size": list(SIZE), "counts": run_lengths(crowd)}, 1)):
            content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": 1000 + i, "area": 1,
                                           "category_id": category, "segmentation": segmentation, "iscrowd": is_crowd,
                                           "bbox": [0, 0, 1, 1]})
    (root / "instances.json").write_text(json.dumps(content))
    return content


def blocks(random, values, size=SIZE) -> np.ndarray:
    """Random blocks of 4 x 4 pixels that have all of `values`, uint8 [H, W]."""
    rows, columns = size[0] // 4, size[1] // 4
    chosen = np.array(values)[random.permutation(rows * columns) % len(values)].reshape(rows, columns)
    return chosen.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def colours(root: pathlib.Path, count: int = 4, ending: str = ".png") -> dict:
    """photos/, masks/ in the colours of labelmap.txt; {name: ids}."""
    table, written = np.array(list(COLORS.values()), np.uint8), {}
    (root / "masks").mkdir(parents=True)
    for i in range(count):
        ids = blocks(np.random.default_rng(i), range(4)).repeat(2, 0).repeat(2, 1)
        photo(root / "photos" / f"{i}.png", i, size=ids.shape)
        quality = {"quality": 95} if ending == ".jpg" else {}
        Image.fromarray(table[ids]).save(root / "masks" / f"{i}{ending}", **quality)
        written[str(i)] = ids
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(
        f"{name}:{','.join(map(str, color))}::\n" for name, color in COLORS.items()))
    return written


def mask(folder, name: str) -> np.ndarray:
    """Class ids of an image in a folder that was written."""
    with Image.open(folder / "masks" / f"{name}.png") as picture:
        assert picture.mode == "P"
        return np.array(picture)
