"""Trees, blocks of flats with shops, and houses with gabled roofs."""

from typing import Tuple

import numpy as np

from paddleseg_encnet.scenes.canvas import Canvas, Solid, locate, patches
from paddleseg_encnet.scenes.materials import BUILDING, FACADES, GREENS, PAINTS, ROOFS, VEGETATION, Colour, pick, vary

#: Outline of a crown: its half width (share of the height) at heights 0..1.
CROWNS = {
    'round': (.30, .52, .60, .56, .30),
    'tall': (.14, .22, .24, .20, .08),
    'conifer': (.36, .29, .22, .13, .03),
    'bush': (.75, .85, .8, .6, .35),
}


def draw_leaves(canvas: Canvas, centres: np.ndarray, radii: np.ndarray, colour: Colour, bright: np.ndarray) -> None:
    """Draws tufts of leaves at (n, 3) centres, dark ones first; `bright` in
    0..1 says how much sky and sun each gets."""
    rng = canvas.rng
    count = 9
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    reach = radii[:, None] * rng.uniform(.6, 1.25, (len(radii), count))
    shapes = np.repeat(centres[:, None], count, 1)
    shapes[..., 0] += reach * np.cos(angle)
    shapes[..., 1] += reach * np.sin(angle)
    pixels = canvas.camera.pixels(shapes)
    depth = float(centres[:, 2].mean())
    # Eight steps of brightness: fewer calls, and leaves cast hard shadows.
    level = np.minimum((np.clip(bright, 0, 1) * 8).astype(int), 7)
    for step in range(8):
        seen = canvas.tone(vary(rng, np.asarray(colour) * (.5 + step * .115),
                                3), (0, 1, -.5), depth)
        for shape in pixels[level == step]:
            canvas.fill([shape], seen, VEGETATION)


def draw_tree(canvas: Canvas, x: float, z: float, height: float = 8., crown: str = 'round') -> None:
    """Draws a tree (its trunk too is vegetation, as in Cityscapes) or a bush
    `height` metres tall."""
    rng = canvas.rng
    foot = 0. if crown == 'bush' else height * (
        .1 if crown == 'conifer' else rng.uniform(.24, .36))
    if foot:
        thick = .012 * height + .05
        canvas.polygon(((x - thick, 0, z), (x + thick, 0, z),
                        (x + thick * .6, foot * 1.4, z),
                        (x - thick * .6, foot * 1.4, z)),
                       vary(rng, (84, 68, 54)), VEGETATION)
    span = height - foot
    # Tufts about as fine as one can see them, but never more than needed.
    seen_height = canvas.camera.focal * span / z
    count = int(np.clip(seen_height * .9, 24, 110))
    up = rng.beta(1.3, 1.3, count)
    outline = np.interp(up, np.linspace(0, 1, 5), CROWNS[crown]) * span
    aside = rng.uniform(-1, 1, count)
    radii = span * rng.uniform(.05, .12, count) * (1.15 - .6 * abs(aside))
    if crown == 'conifer':
        radii *= .7
    centres = np.stack((x + aside * outline, foot + up * span * .94,
                        np.full(count, z)), -1)
    bright = (.5 + .5 * (up - .5) + .25 * aside * np.sign(canvas.sun[0]) +
              rng.normal(0, .16, count))
    draw_leaves(canvas, centres, radii, vary(rng, pick(rng, GREENS), 6),
                bright)


def draw_windows(canvas: Canvas, face: np.ndarray, floors: int, columns: int, low: float = 0.) -> None:
    """Draws a grid of framed windows on a face above the share `low`."""
    rng = canvas.rng
    rows, gaps = (1 - low) / floors, 1. / columns
    column, row = np.meshgrid(np.arange(columns), np.arange(floors))
    s, t = (column.ravel() + .5) * gaps, low + (row.ravel() + .46) * rows
    half_s, half_t = gaps * rng.uniform(.22, .36), rows * rng.uniform(.24, .34)
    lit = rng.random(s.size) < canvas.light.lamps

    def panes(grow: float, chosen: np.ndarray) -> np.ndarray:
        a, b = half_s * grow, half_t * (1 + (grow - 1) * .6)
        return patches(face, np.stack((s - a, t - b, s + a, t + b), 1)[chosen])

    frame = vary(rng, pick(rng, ((226, 224, 218), (120, 112, 104),
                                 (200, 190, 170))))
    glass = vary(rng, pick(rng, ((52, 62, 74), (84, 100, 116), (40, 44, 50))))
    canvas.polygons(panes(1.28, lit | True), frame)
    canvas.polygons(panes(1., ~lit), glass)
    # Lamps shine by themselves: undo part of the dim light of the evening.
    canvas.polygons(panes(1., lit), np.array((440, 350, 200.)))


def draw_block(canvas: Canvas, x: float, z: float, size: Tuple[float, float, float]) -> None:
    """Draws a town building: shops below, floors of windows, a cornice.
    `size` is (width across the street, height, length along it)."""
    rng = canvas.rng
    colour = vary(rng, pick(rng, FACADES), 12)
    shop = vary(rng, pick(rng, FACADES + PAINTS), 12)
    height = size[1]
    floors = max(2, int(round(height / 3.3)))
    low = 1. / floors
    for name, face in Solid((x, z, 0.), size).visible(canvas.camera.position):
        canvas.polygon(face, colour, BUILDING)
        if name == 'top':
            continue
        along = np.hypot(*(face[1] - face[0])[[0, 2]])
        columns = max(2, int(along / 2.6))
        canvas.polygon(patches(face, (0, 0, 1, low * .92))[0], shop)
        draw_windows(canvas, face, floors - 1, columns, low)
        draw_shops(canvas, face, max(1, columns // 2), low)
        canvas.polygons(patches(face, ((0, .965, 1, 1), (0, low * .9, 1, low))),
                        colour * .78)


def draw_shops(canvas: Canvas, face: np.ndarray, count: int, low: float) -> None:
    """Draws shop windows, doors and signs in the lowest share of a face."""
    rng = canvas.rng
    start = np.arange(count) / count
    width = 1. / count
    shine = 1.5 if canvas.light.lamps > .2 else 1.

    def rects(s0: float, t0: float, s1: float, t1: float) -> np.ndarray:
        return patches(face, np.stack(
            (start + s0 * width, np.full(count, t0 * low),
             start + s1 * width, np.full(count, t1 * low)), 1))

    glass = vary(rng, pick(rng, ((58, 66, 72), (92, 96, 96), (130, 118, 92))))
    canvas.polygons(rects(.08, .12, .68, .68), glass * shine)
    canvas.polygons(rects(.75, 0, .92, .66), vary(rng, pick(rng, PAINTS)))
    canvas.polygons(rects(.06, .7, .94, .88), vary(rng, pick(rng, PAINTS)))


def draw_house(canvas: Canvas, x: float, z: float, size: Tuple[float, float, float]) -> None:
    """Draws a house with a gabled roof and a chimney; `size` as for
    :func:`draw_block`, without the roof."""
    rng = canvas.rng
    width, height, length = size
    colour, tiles = (vary(rng, pick(rng, c), 10) for c in (FACADES, ROOFS))
    eye = canvas.camera.position
    rise = rng.uniform(.4, .6) * min(width, length)
    across = rng.random() < .5  # does the ridge run across the street?
    over = .4
    for name, face in Solid((x, z, 0.), size).visible(eye):
        if name == 'top':
            continue
        canvas.polygon(face, colour, BUILDING)
        along = np.hypot(*(face[1] - face[0])[[0, 2]])
        draw_windows(canvas, face, max(1, int(height / 2.7)),
                     max(2, int(along / 3)), .06)
        canvas.polygon(patches(face, (.44, 0, .54, 2.1 / height))[0],
                       vary(rng, pick(rng, PAINTS)))
    # The roof in the house's own axes: u across the ridge, w along it.
    turn = (x, z, np.pi / 2 if across else 0.)
    half_u, half_w = (length, width) if across else (width, length)
    half_u, half_w = half_u / 2, half_w / 2
    peak, eaves = height + rise, height - over * rise / half_u
    gables = [((-half_u, height, w), (half_u, height, w), (0, peak, w))
              for w in (-half_w, half_w)]
    slopes = [((u, eaves, -half_w - over), (u, eaves, half_w + over),
               (0, peak, half_w + over), (0, peak, -half_w - over))
              for u in (-half_u - over, half_u + over)]
    parts = ([(locate(turn, g), colour * .96) for g in gables] +
             [(locate(turn, s), tiles) for s in slopes])
    # All four are convex together: far ones first is the right order.
    parts.sort(key=lambda part: -np.linalg.norm(part[0].mean(0) - eye))
    for points, paint in parts:
        canvas.polygon(points, paint, BUILDING)
        if paint is tiles:
            rows = np.linspace(.08, .92, 8)
            canvas.polygons(patches(points, [(0, t, 1, t + .025)
                                             for t in rows]), tiles * .82)
    Solid(turn, (.6, rise * .7 + .6, .6), height + rise * .5,
          half_w * .4).draw(canvas, (120, 72, 60), BUILDING)
