"""What a street is like and what stands where on it.

`KINDS` says what each kind of scene is made of. Each has the classes that belong there and lacks those that do not
(nobody walks on the highway), and colours vary so much that they alone do not tell a class: what kind of place a
picture shows helps to label it, which is the thing EncNet learns.
"""

from collections import namedtuple
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np

from paddleseg_encnet.scenes.buildings import CROWNS, draw_block, draw_house, draw_tree
from paddleseg_encnet.scenes.furniture import (
    BARRIERS,
    draw_barrier,
    draw_bin,
    draw_gantry,
    draw_lamp_post,
    draw_sign,
    draw_traffic_light,
)
from paddleseg_encnet.scenes.materials import pick, vary

FAR = 160.  # metres to the end of the street

Kind = namedtuple(
    'Kind',
    'lanes lane parking sidewalk verge barriers houses setback backdrop '
    'traffic gap people riders parked_cycles trees crowns lamps signs '
    'lights gantry crossroads')
#: What each kind of scene is made of.  Pairs are ranges to draw from:
#: lanes per direction, gap between vehicles, number of people, riders and
#: parked two-wheelers, spacing of trees and lamps.  `barriers` stand `verge`
#: metres off the road or its sidewalk (None: nothing there), `traffic` is a
#: table of vehicles and their weights, `parking`, `lights`, `signs`, `gantry`
#: and `crossroads` are probabilities (signs: per spot).
KINDS = {
    'highway': Kind(
        (2, 3), 3.6, 0., (0., 0.), (1., 2.),
        ('guard rail', 'guard rail', 'noise wall'), None, (0., 0.), 'hills',
        {'car': 3, 'saloon': 4, 'hatchback': 2, 'van': 1.5, 'truck': 3},
        (10., 34.), (0, 0), (0, 0), (0, 0), (7., 22.),
        ('round', 'conifer', 'bush', 'bush', 'tall'), None, .5, 0., .65, 0.),
    'city': Kind(
        (1, 2), 3.2, .6, (3., 5.), (0., 0.), (None, None, 'railing'), 'block',
        (0., .5), 'skyline',
        {'car': 3, 'saloon': 3, 'hatchback': 2, 'van': 1, 'bus': 2,
         'tram': 2.6, 'truck': .5},
        (9., 30.), (8, 20), (1, 4), (0, 4), (14., 40.), ('round', 'tall'),
        (18., 28.), .5, .6, 0., 0.),
    'residential': Kind(
        (1, 1), 2.9, .85, (1.5, 2.3), (.3, 1.2),
        ('hedge', 'boards', 'boards', 'garden wall', 'garden wall', None),
        'house', (5., 9.), 'trees',
        {'car': 3, 'saloon': 2, 'hatchback': 3, 'van': 1.5}, (22., 60.),
        (1, 5), (0, 2), (1, 4), (7., 16.), ('round', 'round', 'conifer',
                                            'bush'),
        (30., 45.), .3, 0., 0., 0.),
    'crossing': Kind(
        (1, 2), 3.2, 0., (3., 4.5), (0., 0.), (None,), 'block', (0., .5),
        'skyline',
        {'car': 3, 'saloon': 3, 'hatchback': 2, 'van': 1, 'bus': 1.6,
         'truck': .4},
        (12., 30.), (9, 18), (2, 5), (0, 3), (16., 40.), ('round',),
        (22., 34.), .5, 1., 0., 1.),
}


class Layout:
    """The measures of one street, and the things that stand along it.

    Attributes:
        lanes (list): (x of the middle, yaw) of each lane of traffic.
        edges (dict): side (-1 left, 1 right) to x of the edge of the road.
        walks (dict): side to x of the outer edge of the sidewalk.
        junction (tuple): z range of the street that crosses; far beyond the
            view when there is none.
    """

    def __init__(self, name: str, rng: np.random.Generator):
        kind = self.kind = KINDS[name]
        self.name, self.rng = name, rng
        self.things: List[tuple] = []
        lanes = int(rng.integers(kind.lanes[0], kind.lanes[1] + 1))
        mine = int(rng.integers(lanes))  # the lane we drive in, from the right
        shift = rng.normal(0, .2)
        right = (mine + .5) * kind.lane + shift
        self.middle = right - lanes * kind.lane
        self.median = 2.4 if name == 'highway' else 0.
        left = self.middle - self.median - lanes * kind.lane
        self.marks = []
        self.lanes = []
        for i in range(lanes):
            half = (i + .5) * kind.lane
            self.lanes += [(right - half, 0.), (left + half, np.pi)]
            if i:
                self.marks += [right - i * kind.lane, left + i * kind.lane]
        self.lines = (left, right)
        self.parked = [side for side in (-1, 1) if rng.random() < kind.parking]
        shoulder = 2.2 if name == 'highway' else .4
        self.edges = {
            side: line + side * (2.2 if side in self.parked else shoulder)
            for side, line in ((-1, left), (1, right))}
        self.walks = {side: edge + side * rng.uniform(*kind.sidewalk)
                      for side, edge in self.edges.items()}
        self.junction = (2 * FAR, 2 * FAR)
        if rng.random() < kind.crossroads:
            start = rng.uniform(14., 20.)
            self.junction = (start, start + rng.uniform(9., 13.))

    def add(self, depth: float, draw: Callable[..., None], *args: Any,
            box: Optional[Tuple[float, float, float, float, float, float]] = None) -> None:
        """Adds a thing: whatever has the largest `depth` is drawn first.
        `box` (x0, x1, z0, z1, low, high) is what throws its shadow."""
        self.things.append((depth, len(self.things), draw, args, box))

    def clear(self, z: float, margin: float = 0.) -> bool:
        """Whether z is off the crossing street by at least `margin`."""
        return not (self.junction[0] - margin < z < self.junction[1] + margin)

    def width(self, side: int) -> float:
        """Width of the sidewalk on that side."""
        return abs(self.walks[side] - self.edges[side])

    def steps(self, start: float, spacing: Tuple[float, float], stop: float = FAR) -> Iterator[float]:
        """Positions along the street, `spacing` (a range) apart."""
        z = start
        while z < stop:
            yield z
            z += self.rng.uniform(*spacing)


def add_houses(layout: Layout) -> None:
    """Lines both sides of the street with buildings."""
    kind, rng = layout.kind, layout.rng
    if kind.houses is None:
        return
    town = kind.houses == 'block'
    draw = draw_block if town else draw_house
    margin = 4. if town else 0.
    for side in (-1, 1):
        z = rng.uniform(1., 5.)
        while z < FAR * .8:
            length = rng.uniform(9., 19.) if town else rng.uniform(8., 12.)
            if not (layout.clear(z, margin) and
                    layout.clear(z + length, margin)):
                z = layout.junction[1] + margin
                corner = True
            else:
                corner = False
            # The block behind a junction shows its front: make it wide.
            width = 45. if corner else (14. if town else rng.uniform(8., 11.))
            height = (rng.uniform(8., 22.) if town else
                      pick(rng, (3.2, 5.6, 5.6)))
            x = layout.walks[side] + side * (
                rng.uniform(*kind.setback) + width / 2)
            layout.add(z + length, draw, x, z + length / 2,
                       (width, height, length),
                       box=(x - width / 2, x + width / 2, z, z + length, 0.,
                            height))
            z += length + (0. if town and rng.random() < .85 else
                           rng.uniform(3., 7.))


def add_barriers(layout: Layout) -> None:
    """Puts fences, walls, hedges and guard rails along the street."""
    kind, rng = layout.kind, layout.rng
    rows = [(layout.walks[side] + side * rng.uniform(*kind.verge),
             pick(rng, kind.barriers)) for side in (-1, 1)]
    if layout.median:
        rows.append((layout.middle - layout.median / 2, 'guard rail'))
    for x, name in rows:
        if name == 'railing':  # this one keeps people off the road
            x = layout.edges[-1 if x < 0 else 1] + np.sign(x) * .3
        change = (14., 24.) if layout.name == 'residential' else (500., 600.)
        for start in layout.steps(2., change, 100.):
            if name is None or rng.random() < (kind.houses is not None) * .2:
                continue  # a gap, such as the drive of a house
            colour = vary(rng, pick(rng, BARRIERS[name].colours))
            for z in np.arange(start, min(start + change[0] - 2., 100.), 2.):
                layout.add(z + 2., draw_barrier, name, colour, x, z, z + 2.,
                           box=(x - .1, x + .1, z, z + 2., 0.,
                                BARRIERS[name].height))
            if kind.houses == 'house':
                name = pick(rng, kind.barriers)


def add_trees(layout: Layout) -> None:
    """Plants trees: on the sidewalk in town, in the gardens, on the banks."""
    kind, rng = layout.kind, layout.rng
    for side in (-1, 1):
        for z in layout.steps(rng.uniform(9., 16.), kind.trees, 120.):
            crown = pick(rng, kind.crowns)
            if kind.houses == 'block':
                x = layout.edges[side] + side * 1.1
                height = rng.uniform(5., 8.)
                if rng.random() < .35 or not layout.clear(z, 3.):
                    continue
            else:
                x = layout.walks[side] + side * (
                    (3. + rng.exponential(9.)) if kind.houses is None else
                    rng.uniform(2.2, 5.))
                height = rng.uniform(5., 13.)
            if crown == 'bush':
                height *= .25
            half = CROWNS[crown][2] * height * .6
            layout.add(z, draw_tree, x, z, height, crown,
                       box=(x - half, x + half, z - half, z + half,
                            height * .3, height * .9))


def add_furniture(layout: Layout) -> None:
    """Puts up lamps, signs, traffic lights, gantries and bins."""
    kind, rng = layout.kind, layout.rng
    outer = .5 if kind.sidewalk[1] else 1.6
    for side in (-1, 1):
        x = layout.edges[side] + side * outer
        if kind.lamps:
            for z in layout.steps(rng.uniform(8., 20.), kind.lamps, 110.):
                if layout.clear(z):
                    layout.add(z, draw_lamp_post, x, z)
        for z in layout.steps(rng.uniform(9., 18.), (9., 24.), 60.):
            if rng.random() < kind.signs and layout.clear(z):
                size = (3.2, .62) if layout.median else (
                    rng.uniform(2.2, 2.7), .42)
                layout.add(z, draw_sign, x + side * .1, z, *size)
        if kind.sidewalk[1] and rng.random() < .4:
            z = rng.uniform(9., 20.)
            layout.add(z, draw_bin, x + side * .7, z,
                       box=(x + side * .7 - .25, x + side * .7 + .25,
                            z - .25, z + .25, 0., .95))
    if rng.random() < kind.lights:
        start = layout.junction[0]
        stops = ((start - 1., start + 14.) if kind.crossroads else
                 (rng.uniform(12., 26.),))
        for z in stops:
            for side in (-1, 1):
                reach = pick(rng, (0., 3.2)) if side > 0 else 0.
                layout.add(z, draw_traffic_light,
                           layout.edges[side] + side * .45, z, reach)
    if rng.random() < kind.gantry:
        z = rng.uniform(22., 50.)
        layout.add(z, draw_gantry, layout.middle - 1.2,
                   layout.edges[1] + .8, z)
