"""Who moves on the street and beside it: vehicles, people, riders."""

from typing import Any, Callable, Tuple

import numpy as np

from paddleseg_encnet.scenes.layout import FAR, Layout
from paddleseg_encnet.scenes.materials import BICYCLE, MOTORCYCLE, pick
from paddleseg_encnet.scenes.people import draw_cycle, draw_person
from paddleseg_encnet.scenes.vehicles import VEHICLES, draw_vehicle


def add_vehicle(layout: Layout, name: str, x: float, z: float, yaw: float = 0.) -> None:
    """Adds a vehicle whose near end is at z, with its shadow."""
    width, height, length = VEHICLES[name].size
    aside = abs(np.sin(yaw)) > .5
    half_x, half_z = (length / 2, width / 2) if aside else (width / 2,
                                                            length / 2)
    layout.add(z, draw_vehicle, name, x, z + half_z, yaw,
               box=(x - half_x, x + half_x, z, z + 2 * half_z, 0., height))


def pick_vehicle(layout: Layout) -> str:
    """A name from the kind's table of traffic."""
    names = list(layout.kind.traffic)
    weights = np.array([layout.kind.traffic[n] for n in names], float)
    return names[int(layout.rng.choice(len(names), p=weights /
                                       weights.sum()))]


def add_traffic(layout: Layout) -> None:
    """Fills the lanes, the parking strips and the crossing street."""
    kind, rng = layout.kind, layout.rng
    cars = [name for name in kind.traffic if VEHICLES[name].size[2] < 5]
    for x, yaw in layout.lanes:
        ours = abs(x) < 1.5
        z = rng.uniform(11., 30.) if ours else rng.uniform(6., 24.)
        while z < 110.:
            name = pick_vehicle(layout)
            length = VEHICLES[name].size[2]
            # Trams stay off our own lane, or little else would be seen.
            if ours and length > 6. and z < 18.:
                name, length = pick(rng, cars), 5.
            if layout.clear(z, 4.5) and layout.clear(z + length, 3.):
                add_vehicle(layout, name, x + rng.normal(0, .15), z,
                            yaw + rng.normal(0, .015))
            z += length + rng.uniform(*kind.gap)
    for side in layout.parked:
        x = layout.edges[side] - side * 1.15
        for z in layout.steps(rng.uniform(5., 9.), (5.6, 9.), 80.):
            if rng.random() < .72:
                add_vehicle(layout, pick(rng, cars), x + rng.normal(0, .08), z,
                            pick(rng, (0., 0., np.pi)) + rng.normal(0, .02))
    start, stop = layout.junction
    if start < FAR:
        for share, yaw in ((.3, np.pi / 2), (.72, -np.pi / 2)):
            x = rng.uniform(-16., -6.)
            while x < 24.:
                name = pick_vehicle(layout)
                length = VEHICLES[name].size[2]
                if rng.random() < .6:
                    add_vehicle(layout, name, x + length / 2,
                                start + share * (stop - start) - 1., yaw)
                x += length + rng.uniform(3., 14.)


def add_people(layout: Layout) -> None:
    """Puts people on the sidewalks and the zebra, riders on the road."""
    kind, rng = layout.kind, layout.rng

    def some(bounds: Tuple[int, int]) -> range:
        return range(int(rng.integers(bounds[0], bounds[1] + 1)))

    def add(draw: Callable[..., None], x: float, z: float, *args: Any, wide: float = .25, high: float = 1.7) -> None:
        layout.add(z, draw, x, z, *args, box=(x - wide, x + wide, z - .15,
                                              z + .15, 0., high))

    crossroads = layout.junction[0] < FAR
    for _ in some(kind.people):
        side, flip = pick(rng, (-1, 1)), pick(rng, (-1, 1))
        scale = rng.uniform(.94, 1.06) if rng.random() < .88 else .68
        if crossroads and rng.random() < .5:  # on the zebra, from the side
            add(draw_person, rng.uniform(layout.edges[-1], layout.edges[1]),
                layout.junction[0] - rng.uniform(2.2, 5.),
                rng.uniform(.22, .34), scale, flip)
        else:
            z = 7. + 45. * rng.random() ** 1.6
            x = layout.edges[side] + side * (
                .6 + rng.random() * (layout.width(side) - 1.))
            add(draw_person, x, z, rng.uniform(.06, .2), scale, flip)
    for _ in some(kind.riders):
        machine = pick(rng, (BICYCLE, BICYCLE, MOTORCYCLE))
        flip = pick(rng, (-1, 1))
        if crossroads and rng.random() < .55:
            add(draw_cycle, rng.uniform(-8., 8.),
                layout.junction[0] + rng.uniform(-.5, 2.), machine, True, True,
                flip, wide=.8)
        else:
            side = pick(rng, (-1, 1))
            x = layout.edges[side] - side * (2.7 if side in layout.parked
                                             else rng.uniform(.5, 1.))
            add(draw_cycle, x, rng.uniform(8., 26.), machine, False, True,
                flip)
    for _ in some(kind.parked_cycles):
        side = pick(rng, (-1, 1))
        add(draw_cycle, layout.edges[side] + side * rng.uniform(.8, 1.6),
            rng.uniform(8., 24.), pick(rng, (BICYCLE, BICYCLE, MOTORCYCLE)),
            rng.random() < .75, False, pick(rng, (-1, 1)), wide=.7, high=.9)
