"""Cars, vans, buses, trucks and trams, as boxes with windows, lamps and wheels."""

from collections import namedtuple
from typing import Dict, Tuple

import numpy as np

from paddleseg_encnet.scenes.canvas import Canvas, Place, Solid, circle, locate
from paddleseg_encnet.scenes.materials import BUS, CAR, FACADES, PAINTS, TRAIN, TRIM, TRUCK, pick, vary

Part = namedtuple('Part', 'size base forward inset paint layer details')
Vehicle = namedtuple('Vehicle', 'label size wheel axles parts')


def _both(*rects: tuple) -> Dict[str, Tuple[tuple, ...]]:
    return {'left': rects, 'right': rects}


def _car(label: int, length: float, height: float, hood: float, boot: float, slope: Tuple[float, float]) -> Vehicle:
    """A car-shaped vehicle: body with a cabin `hood` behind the front and
    `boot` before the rear, whose windows lean by `slope` (front, rear)."""
    body, width = 0.56 * height, 1.8
    cabin = length - hood - boot
    return Vehicle(label, (width, height, length), 0.33,
                   (-0.3 * length, 0.3 * length), (
        Part((1.62, 0.3, 0.9 * length), 0.02, 0., (0, 0, 0), 'dark', 0, {}),
        Part((width, body - 0.2, length), 0.2, 0., (.05, .06, .14), None, 0, {
            'rear': (('dark', 0, 0, 1, .22), ('tail', .02, .55, .2, .86),
                     ('tail', .8, .55, .98, .86), ('plate', .36, .4, .64, .6)),
            'front': (('dark', 0, 0, 1, .2), ('dark', .26, .3, .74, .62),
                      ('lamp', .03, .5, .23, .78), ('lamp', .77, .5, .97, .78),
                      ('plate', .38, .1, .62, .26)),
            **_both(('dark', 0, 0, 1, .14), ('line', .36, .2, .365, .98),
                    ('line', .6, .2, .605, .98))}),
        Part((width - .1, height - body, cabin), body, (boot - hood) / 2,
             (.2, slope[1], slope[0]), None, 1, {
            'rear': (('glass', .07, .12, .93, .86),),
            'front': (('glass', .05, .06, .95, .9),),
            **_both(('glass', .1, .1, .48, .86), ('glass', .52, .1, .93, .86))
        })))


def _windows(count: int, low: float, high: float, gap: float = .012) -> Tuple[tuple, ...]:
    """A row of `count` panes along the whole side of a bus or tram."""
    edges = np.linspace(.02, .98, count + 1)
    return tuple(('glass', a + gap, low, b - gap, high)
                 for a, b in zip(edges[:-1], edges[1:]))


VEHICLES = {
    'car': _car(CAR, 4.3, 1.47, 1.15, .45, (.75, .4)),
    'hatchback': _car(CAR, 3.8, 1.5, .9, .08, (.7, .35)),
    'saloon': _car(CAR, 4.7, 1.43, 1.25, .8, (.8, .7)),
    'van': _car(CAR, 4.8, 1.95, .7, .02, (.8, .12)),
    'bus': Vehicle(BUS, (2.5, 3.05, 12.), .48, (-3.2, 3.6), (
        Part((2.3, .4, 11.), .02, 0., (0, 0, 0), 'dark', 0, {}),
        Part((2.5, 2.75, 12.), .3, 0., (.08, .06, .12), None, 0, {
            'rear': (('dark', 0, 0, 1, .1), ('glass', .1, .52, .9, .9),
                     ('tail', .03, .2, .12, .36), ('tail', .88, .2, .97, .36),
                     ('plate', .4, .16, .6, .22), ('grey', .2, .22, .8, .42)),
            'front': (('dark', 0, 0, 1, .1), ('glass', .05, .3, .95, .84),
                      ('dark', .1, .86, .9, .97), ('display', .2, .88, .8, .95),
                      ('lamp', .06, .13, .22, .21), ('lamp', .78, .13, .94, .21),
                      ('plate', .4, .12, .6, .18)),
            **_both(('dark', 0, 0, 1, .08), *_windows(7, .42, .86),
                    ('glass', .3, .08, .38, .86), ('glass', .86, .08, .93, .86))
        }))),
    'truck': Vehicle(TRUCK, (2.5, 3.6, 9.5), .5, (-3.6, -2.4, 3.6), (
        Part((2.2, .6, 9.), .3, 0., (0, 0, 0), 'dark', 0, {}),
        Part((2.3, 2.4, 1.9), .4, 3.75, (.08, .02, .3), None, 0, {
            'front': (('glass', .06, .48, .94, .9), ('dark', 0, 0, 1, .14),
                      ('dark', .2, .2, .8, .42), ('lamp', .03, .14, .2, .24),
                      ('lamp', .8, .14, .97, .24)),
            **_both(('glass', .3, .5, .85, .86), ('line', .2, .05, .22, .95))}),
        Part((2.5, 2.7, 7.3), .9, -1., (0, 0, 0), 'cargo', 0, {
            'rear': (('line', .49, .03, .51, .97), ('grey', .2, .1, .24, .95),
                     ('grey', .76, .1, .8, .95), ('tail', .02, -.12, .16, -.04),
                     ('tail', .84, -.12, .98, -.04), ('dark', 0, -.04, 1, 0.01),
                     ('plate', .4, -.12, .6, -.05)),
            **_both(('grey', 0, 0, 1, .03), ('grey', 0, .97, 1, 1.))}))),
    'tram': Vehicle(TRAIN, (2.5, 3.4, 24.), .3, (), (
        Part((2.2, .4, 23.), .02, 0., (0, 0, 0), 'dark', 0, {}),
        Part((2.5, 2.9, 24.), .25, 0., (.12, .3, .3), None, 0, {
            **{end: (('dark', 0, 0, 1, .1), ('white', 0, .32, 1, .4),
                     ('glass', .08, .42, .92, .84), ('dark', .12, .87, .88, .98),
                     ('display', .25, .89, .75, .96), (lamp, .1, .16, .24, .25),
                     (lamp, .76, .16, .9, .25))
               for end, lamp in (('rear', 'tail'), ('front', 'lamp'))},
            **_both(('dark', 0, 0, 1, .08), ('white', 0, .32, 1, .38),
                    *_windows(12, .44, .84), *(
                        ('glass', s, .08, s + .04, .84)
                        for s in (.1, .3, .66, .86)),
                    ('dark', .33, 0, .345, 1), ('dark', .655, 0, .67, 1))}),
        Part((1.5, .3, 16.), 3.15, 0., (.2, .2, .2), 'grey', 1, {}))),
}


def draw_vehicle(canvas: Canvas, kind: str, x: float, z: float, yaw: float = 0.) -> None:
    """Draws a vehicle of `VEHICLES` whose middle stands at (x, z)."""
    rng, eye = canvas.rng, canvas.camera.position
    vehicle, place = VEHICLES[kind], (x, z, yaw)
    body = vary(rng, pick(rng, PAINTS), 8)
    paints = {None: body, 'cargo': vary(rng, pick(rng, PAINTS + FACADES), 8)}

    def order(part: Part) -> Tuple[int, float]:  # far parts first, what stands on others last
        middle = locate(place, (0., 0., part.forward))
        return part.layer, -round(float(np.hypot(*(middle - eye)[[0, 2]])), 1)

    # The underbody shares its middle with the body or comes before it anyway.
    first, *rest = vehicle.parts
    for part in (first, *sorted(rest, key=order)):
        colour = paints.get(part.paint)
        Solid(place, part.size, part.base, part.forward, part.inset).draw(
            canvas, TRIM[part.paint] if colour is None else colour,
            vehicle.label, part.details)
    draw_wheels(canvas, vehicle, place)


def draw_wheels(canvas: Canvas, vehicle: Vehicle, place: Place) -> None:
    """Draws the wheels on the side of a vehicle that is in sight."""
    side = locate((0., 0., place[2]), (1., 0., 0.))
    to_eye = np.subtract(canvas.camera.position, (place[0], 0., place[1]))
    sign = np.sign(side @ to_eye)
    offset = sign * vehicle.size[0] / 2
    if abs(side @ to_eye) < vehicle.size[0] / 2:
        return  # straight ahead: neither side can be seen
    for radius, paint in ((1., 'dark'), (.6, 'grey'), (.2, 'dark')):
        rings = []
        for axle in vehicle.axles:
            ring = circle((axle, vehicle.wheel), radius * vehicle.wheel)
            rings.append(locate(place, np.stack(
                (np.full(len(ring), offset), ring[:, 1], ring[:, 0]), -1)))
        if rings:
            canvas.polygons(rings, TRIM[paint], vehicle.label)
