"""People on foot, and on bicycles and motorcycles, as flat figures that face the viewer."""

from typing import Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike

from paddleseg_encnet.scenes.canvas import FACING, Canvas, circle
from paddleseg_encnet.scenes.materials import (
    BICYCLE,
    CLOTHES,
    HAIRS,
    MOTORCYCLE,
    PAINTS,
    PERSON,
    RIDER,
    SKINS,
    TRIM,
    Colour,
    pick,
    vary,
)


class Cutout:
    """A flat figure that faces the viewer at ground point (x, z).

    Its shapes are in metres: (right, up) from the point on the ground,
    times `scale`; `flip` -1 mirrors it.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, label: int, scale: float = 1., flip: int = 1):
        self.canvas, self.x, self.z, self.label = canvas, x, z, label
        self.stretch = np.array((scale * flip, scale))

    def pixels(self, shape: ArrayLike) -> np.ndarray:
        points = np.asarray(shape, float) * self.stretch
        return np.stack(self.canvas.camera.project(
            self.x + points[:, 0], points[:, 1], self.z), -1)

    def polygon(self, shape: ArrayLike, colour: Colour) -> None:
        self.canvas.fill([self.pixels(shape)],
                         self.canvas.tone(colour, FACING, self.z), self.label)

    def disc(self, centre: ArrayLike, radius: float, colour: Colour, flat: float = 1.) -> None:
        self.polygon(circle(centre, radius, flat=flat), colour)

    def limb(self, start: ArrayLike, end: ArrayLike, width: float, colour: Colour) -> None:
        """A bar with blunt ends, `width` metres wide."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        along = (end - start) / max(np.hypot(*(end - start)), 1e-6) * width / 2
        across = np.array((-along[1], along[0]))
        tip = along * .6
        self.polygon((start + across, start - tip, start - across,
                      end - across, end + tip, end + across), colour)

    def wheel(self, centre: ArrayLike, radius: float, width: float, colour: Colour) -> None:
        """A spoked wheel from the side: a ring one can look through, which
        the label covers whole as Cityscapes' annotators do."""
        rim, hole = circle(centre, radius), circle(centre, radius - width)
        self.canvas.fill([self.pixels(rim)], None, self.label)
        self.canvas.fill([self.pixels(rim), self.pixels(hole)],
                         self.canvas.tone(colour, FACING, self.z))


def _head(figure: Cutout, centre: Tuple[float, float], rng: np.random.Generator,
          helmet: Optional[Colour] = None) -> None:
    skin, hair = pick(rng, SKINS), helmet or pick(rng, HAIRS)
    x, y = centre
    figure.disc((x, y), .115, skin, flat=.85)
    arc = circle((x, y + .02), .125, flat=.9)
    figure.polygon(arc[arc[:, 1] >= y + .015], hair)


def draw_person(canvas: Canvas, x: float, z: float, stride: float = .1, scale: float = 1., flip: int = 1) -> None:
    """Draws somebody of 1.75 m times `scale` on foot; a large `stride`
    (metres) shows them from the side, walking across."""
    rng = canvas.rng
    figure = Cutout(canvas, x, z, PERSON, scale, flip)
    top, legs = (vary(rng, pick(rng, CLOTHES)) for _ in range(2))
    wide = .2 if stride < .18 else .14
    skin, swing = pick(rng, SKINS), stride * .8
    for side in (1, -1):  # the far arm and leg first
        figure.limb((wide * side * .45, .92), (side * stride, .08), .15,
                    legs * (.85 if side > 0 else 1.))
        figure.limb((side * stride, .05), (side * stride + .08, .04), .09,
                    TRIM['dark'])
        if side > 0:
            figure.limb((wide, 1.36), (wide + swing, .88), .1, top * .85)
    if rng.random() < .3:  # a skirt or a long coat
        figure.polygon(((-.2, .55), (.2, .55), (.15, 1.), (-.15, 1.)), top)
    figure.polygon(((-wide * .85, .88), (wide * .85, .88), (wide * 1.1, 1.38),
                    (wide * .5, 1.47), (-wide * .5, 1.47),
                    (-wide * 1.1, 1.38)), top)
    figure.limb((-wide, 1.36), (-wide - swing, .88), .1, top * .92)
    figure.disc((-wide - swing, .83), .05, skin)
    if rng.random() < .35:  # a bag
        figure.polygon(((wide, .7), (wide + .24, .7), (wide + .2, 1.),
                        (wide + .02, 1.)), pick(rng, CLOTHES))
    figure.limb((0, 1.45), (0, 1.52), .1, skin)
    _head(figure, (0, 1.62), rng)


def draw_cycle(canvas: Canvas, x: float, z: float, kind: int = BICYCLE, aside: bool = True, ridden: bool = True,
               flip: int = 1) -> None:
    """Draws a bicycle or motorcycle, `aside` or seen end on, and whoever
    rides it."""
    figure = Cutout(canvas, x, z, kind, 1., flip)
    paint = vary(canvas.rng, pick(canvas.rng, PAINTS))
    motor = kind == MOTORCYCLE
    if ridden and not aside:
        # End on the rider sits over the machine and is seen whole.
        _draw_machine_end(figure, paint, motor)
        _draw_rider_end(Cutout(canvas, x, z, RIDER, 1., flip), motor)
        return
    if aside:
        (_draw_motorcycle if motor else _draw_bicycle)(figure, paint)
    else:
        _draw_machine_end(figure, paint, motor)
    if ridden:
        _draw_rider(Cutout(canvas, x, z, RIDER, 1., flip), motor)


def _draw_bicycle(figure: Cutout, paint: Colour) -> None:
    for hub in (-.52, .52):
        figure.wheel((hub, .34), .34, .055, TRIM['dark'])
    rear, crank, seat, head = (-.52, .34), (-.06, .3), (-.2, .85), (.38, .84)
    for start, end in ((rear, crank), (crank, seat), (seat, rear),
                       (crank, head), (head, seat), (head, (.52, .34))):
        figure.limb(start, end, .055, paint)
    figure.limb((-.32, .93), (-.1, .93), .07, TRIM['dark'])
    figure.limb((.3, 1.02), (.5, 1.), .06, TRIM['dark'])
    figure.limb((.38, .84), (.38, 1.02), .05, paint)


def _draw_motorcycle(figure: Cutout, paint: Colour) -> None:
    for hub in (-.66, .68):
        figure.disc((hub, .31), .31, TRIM['dark'])
        figure.disc((hub, .31), .17, TRIM['grey'])
    figure.polygon(((-.45, .3), (.3, .28), (.42, .6), (-.5, .62)),
                   TRIM['line'])
    figure.polygon(((-.9, .72), (-.2, .64), (.1, .7), (.46, .62), (.5, .9),
                    (.2, .98), (-.15, .8), (-.85, .86)), paint)
    figure.polygon(((-.75, .84), (-.1, .8), (-.15, .9), (-.78, .92)),
                   TRIM['dark'])
    figure.limb((.45, .95), (.68, .31), .08, TRIM['grey'])
    figure.limb((.3, 1.06), (.5, 1.0), .07, TRIM['dark'])
    figure.disc((.58, .86), .1, TRIM['lamp'])


def _draw_machine_end(figure: Cutout, paint: Colour, motor: bool) -> None:
    wheel, bar = (.075, .38) if motor else (.03, .3)
    figure.polygon(((-wheel, 0), (wheel, 0), (wheel, .66), (-wheel, .66)),
                   TRIM['dark'])
    if motor:
        figure.polygon(((-.2, .4), (.2, .4), (.24, .8), (-.24, .8)), paint)
        figure.polygon(((-.09, .62), (.09, .62), (.09, .72), (-.09, .72)),
                       TRIM['tail'])
    else:
        figure.limb((0, .5), (0, .95), .08, paint)
    figure.limb((-bar, 1.02), (bar, 1.02), .06, TRIM['dark'])


def _draw_rider(figure: Cutout, motor: bool) -> None:
    """The rider of a machine that crosses from left to right."""
    rng = figure.canvas.rng
    top, legs = (vary(rng, pick(rng, CLOTHES)) for _ in range(2))
    hip, shoulder = (-.22, 1.), (.12, 1.5)
    for knee, foot in (((.22, .78), (.04, .3)), ((.14, .68), (-.1, .34))):
        figure.limb(hip, knee, .16, legs)
        figure.limb(knee, foot, .12, legs * .9)
    figure.limb(hip, shoulder, .28, top)
    figure.limb(shoulder, (.4, 1.06), .1, top * .9)
    _head(figure, (.22, 1.7), rng, pick(rng, PAINTS) if motor else None)


def _draw_rider_end(figure: Cutout, motor: bool) -> None:
    rng = figure.canvas.rng
    top, legs = (vary(rng, pick(rng, CLOTHES)) for _ in range(2))
    out = .24 if motor else .14
    for side, foot in ((-1, .2), (1, .42)):
        figure.limb((side * .1, 1.), (side * out, .62), .16, legs)
        figure.limb((side * out, .62), (side * out * .8, foot), .12, legs * .9)
        figure.limb((side * .2, 1.44), (side * .32, 1.06), .1, top * .9)
    figure.polygon(((-.18, .92), (.18, .92), (.22, 1.44), (.1, 1.54),
                    (-.1, 1.54), (-.22, 1.44)), top)
    _head(figure, (0, 1.7), rng, pick(rng, PAINTS) if motor else None)
