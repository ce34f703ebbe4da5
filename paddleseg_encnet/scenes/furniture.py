"""Barriers, lamp posts, signs, traffic lights and gantries; and the bonnet of the car that carries the camera."""

from collections import namedtuple

import numpy as np

from paddleseg_encnet.scenes.buildings import draw_leaves
from paddleseg_encnet.scenes.canvas import Canvas, Solid, circle, patches
from paddleseg_encnet.scenes.materials import (
    FENCE,
    GREENS,
    IGNORE,
    PAINTS,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    WALL,
    Colour,
    pick,
    vary,
)
from paddleseg_encnet.scenes.people import Cutout

Barrier = namedtuple('Barrier', 'label base height thick colours pattern')
BARRIERS = {
    'guard rail': Barrier(FENCE, .45, .34, .08, ((168, 172, 176),), 'rail'),
    'noise wall': Barrier(WALL, 0., 3.4, .3, ((150, 146, 138), (128, 110, 92),
                                             (110, 128, 112)), 'panels'),
    'garden wall': Barrier(WALL, 0., 1.25, .3, ((156, 96, 74), (172, 166, 152),
                                               (206, 198, 182)), 'bricks'),
    'retaining wall': Barrier(WALL, 0., 2.4, .4, ((140, 136, 130),
                                                 (120, 112, 100)), 'bricks'),
    'boards': Barrier(FENCE, .08, 1.15, .05, ((222, 220, 212), (128, 92, 62),
                                             (96, 74, 54)), 'boards'),
    'railing': Barrier(FENCE, .1, 1., .04, ((70, 76, 82), (52, 84, 66)),
                       'boards'),
    'hedge': Barrier(VEGETATION, 0., 1.3, .7, GREENS[:3], 'leaves'),
}


def draw_barrier(canvas: Canvas, kind: str, colour: Colour, x: float, z0: float, z1: float) -> None:
    """Draws a stretch of a barrier of `BARRIERS` along the street."""
    barrier, rng = BARRIERS[kind], canvas.rng
    height, length = barrier.height, z1 - z0
    place = (x, (z0 + z1) / 2, 0.)
    solid = Solid(place, (barrier.thick, height, length), barrier.base)
    side = 'left' if x > 0 else 'right'
    face = solid.corners[list(Solid.FACES[side])]
    colour = np.asarray(colour, float)
    if barrier.pattern == 'boards':
        # One can look between the boards; the label covers the whole fence.
        canvas.fill([canvas.camera.pixels(face)], None, barrier.label)
        # 0.4 m apart; far away fewer and wider ones give the same picture.
        step = .4 / length * max(1., z0 / 40.)
        starts = np.arange(0, 1 - step / 4, step)
        boards = np.stack((starts, 0 * starts, starts + step * .58,
                           1 + 0 * starts), 1)
        canvas.polygons(patches(face, boards), colour)
        canvas.polygons(patches(face, ((0, .2, 1, .3), (0, .75, 1, .85))),
                        colour * .85)
        return
    if barrier.pattern == 'rail':
        Solid((x, z0 + .1, 0.), (.1, .5, .1)).draw(canvas, colour * .7,
                                                   barrier.label)
    solid.draw(canvas, colour, barrier.label)
    if barrier.pattern == 'rail':
        canvas.polygons(patches(face, ((0, .1, 1, .28), (0, .6, 1, .74))),
                        colour * .62)
    elif barrier.pattern == 'panels':
        canvas.polygons(patches(face, ((0, 0, .05, 1.),)), colour * .7)
        canvas.polygons(patches(face, [(.05, t, 1, t + .02)
                                       for t in (.25, .5, .75)]), colour * .85)
    elif barrier.pattern == 'bricks':
        rows = np.arange(1, 6) / 6
        canvas.polygons(patches(face, [(0, t, 1, t + .03) for t in rows]),
                        colour * .8)
        canvas.polygon(patches(face, (0, .93, 1, 1.03))[0],
                       colour * 1.12, barrier.label)
    elif barrier.pattern == 'leaves':
        count = int(np.clip(500. / z0, 10, 60))
        spot = patches(face, rng.random((count, 4)))[:, 0]
        spot[:, 1] += rng.uniform(0, .12, count)
        draw_leaves(canvas, spot, rng.uniform(.07, .17, count), colour,
                    spot[:, 1] / height * .7 + rng.normal(0, .15, count))


def draw_post(canvas: Canvas, x: float, z: float, height: float, thick: float = .12,
              colour: Colour = (112, 116, 118)) -> None:
    """Draws an upright pole."""
    canvas.polygon(((x - thick / 2, 0, z), (x + thick / 2, 0, z),
                    (x + thick / 2, height, z), (x - thick / 2, height, z)),
                   colour, POLE)


def draw_lamp_post(canvas: Canvas, x: float, z: float, height: float = 7.5) -> None:
    """Draws a street lamp with its arm over the road."""
    draw_post(canvas, x, z, height, .16)
    arm = Cutout(canvas, x, z, POLE, 1., -1 if x > 0 else 1)
    arm.limb((0, height), (1.6, height + .25), .1, (112, 116, 118))
    shine = 2.4 if canvas.light.lamps > .2 else 1.
    arm.limb((1.4, height + .2), (2.1, height + .24), .18,
             np.array((190, 188, 176.)) * shine)


#: Corners, turn, rim and face of the plates: a triangle, circles, ...
SIGNS = ((3, np.pi / 2, (196, 30, 36), (236, 234, 228)),
         (20, 0., (196, 30, 36), (236, 234, 228)),
         (20, 0., (226, 228, 230), (28, 82, 168)),
         (4, np.pi / 4, (226, 228, 230), (28, 82, 168)),
         (4, 0., (236, 234, 228), (236, 178, 34)),
         (8, np.pi / 8, (236, 234, 228), (190, 28, 34)),
         (4, np.pi / 4, (40, 44, 50), (238, 204, 52)))


def draw_sign(canvas: Canvas, x: float, z: float, height: float = 2.4, radius: float = .42) -> None:
    """Draws a traffic sign on its pole; only the plate is a sign."""
    corners, phase, rim, face = pick(canvas.rng, SIGNS)
    draw_post(canvas, x, z, height, .09)
    plate = Cutout(canvas, x, z, TRAFFIC_SIGN)
    plate.polygon(circle((0, height), radius, corners, phase), rim)
    plate.polygon(circle((0, height), radius * .74, corners, phase), face)
    mark = vary(canvas.rng, (40, 40, 44) if face[0] > 200 else (236, 236, 236))
    plate.limb((-.05, height - .1), (.06, height + .12), .1, mark)


def draw_traffic_light(canvas: Canvas, x: float, z: float, reach: float = 0.) -> None:
    """Draws a traffic light at the roadside, with `reach` one more on an arm
    that hangs `reach` metres out over the road."""
    heads = [(0., 2.9)]
    draw_post(canvas, x, z, 5.6 if reach else 2.9, .16, (84, 88, 90))
    if reach:
        arm = Cutout(canvas, x, z, POLE, 1., -1 if x > 0 else 1)
        arm.limb((0, 5.5), (reach, 5.7), .14, (84, 88, 90))
        heads.append((-reach if x > 0 else reach, 5.2))
    lit = pick(canvas.rng, ((1,), (3,), (2,), (1, 2)))
    for offset, middle in heads:
        head = Cutout(canvas, x + offset, z, TRAFFIC_LIGHT)
        head.polygon(((-.22, middle - .55), (.22, middle - .55),
                      (.22, middle + .55), (-.22, middle + .55)), (26, 28, 28))
        for row, colour in ((1, (255, 40, 30)), (2, (255, 190, 30)),
                            (3, (60, 240, 120))):
            shine = 1.6 if row in lit else .22
            head.disc((0, middle + .68 - .34 * row), .135,
                      np.array(colour) * shine)


def draw_gantry(canvas: Canvas, x0: float, x1: float, z: float) -> None:
    """Draws a motorway gantry from x0 to x1 with direction panels."""
    rng, top = canvas.rng, 7.2
    for x in (x0, x1):
        draw_post(canvas, x, z, top, .35, (132, 136, 140))
    beam = Cutout(canvas, 0., z, POLE)
    for height in (top - .5, top):
        beam.limb((x0, height), (x1, height), .2, (132, 136, 140))
    panel = Cutout(canvas, 0., z, TRAFFIC_SIGN)
    paint = pick(rng, ((24, 78, 164), (24, 104, 66)))
    white = (238, 238, 234)
    for x in np.arange(x0 + 2.6, x1 - 1.8, 4.4):
        half, low, high = rng.uniform(1.5, 1.9), 5.5, rng.uniform(7.6, 8.2)
        for grow, colour in ((.12, white), (0., paint)):
            panel.polygon(((x - half - grow, low - grow),
                           (x + half + grow, low - grow),
                           (x + half + grow, high + grow),
                           (x - half - grow, high + grow)), colour)
        for row in (high - .6, high - 1.2):
            panel.limb((x - half * .7, row), (x + half * rng.uniform(.1, .7),
                                              row), .28, white)
        panel.limb((x, low + .15), (x, low + .7), .2, white)


def draw_bin(canvas: Canvas, x: float, z: float) -> None:
    """Draws a litter bin: `static` in Cityscapes, hence not labelled."""
    Solid((x, z, 0.), (.5, .95, .5), inset=(-.04, -.04, -.04)).draw(
        canvas, vary(canvas.rng, pick(canvas.rng, PAINTS)), IGNORE)


def draw_hood(canvas: Canvas, reach: float) -> None:
    """Draws the bonnet of the car the camera rides in, the lowest `reach` of
    the image; it belongs to no class."""
    width, height = canvas.camera.width, canvas.camera.height
    u = np.linspace(-1.1, 1.1, 25)
    paint = canvas.tone(vary(canvas.rng, (30, 32, 36), 5), (0, 1, 0), 1.)
    for drop, factor, label in ((0., 1.8, IGNORE), (.012, 1., IGNORE),
                                (.5 * reach, .75, None)):
        v = 1 - reach * (1 - .35 * abs(u) ** 2.5) + drop
        top = np.stack((.5 + u / 2, v), -1)
        shape = np.concatenate((top, ((1.1, 1.2), (-.1, 1.2))))
        canvas.fill([shape * (width, height)],
                    tuple(min(255., c * factor) for c in paint), label)
