"""A generated data set of street scenes in the layout of Cityscapes.

The real Cityscapes needs a registration and 11 GB.  This module draws a
stand-in on any machine in seconds, so that training, evaluation and export
can be tried whole: same folders, same file names, same 19 train ids.

There are four kinds of scene, which take the place of the cities: `highway`,
`city`, `residential` and `crossing`.  Each shows the classes that belong
there and lacks those that do not (nobody walks on the highway).  Colours vary
so much that they alone do not tell a class.  What kind of place a picture
shows therefore helps to label it, which is the thing EncNet learns.

`KINDS` says what each kind is made of, :func:`render` draws one scene and
:func:`generate` writes a data set.  Lengths are in metres and the axes those
of :mod:`paddleseg_encnet.scene_objects`, which does the drawing.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import namedtuple

import cv2
import numpy as np

from paddleseg_encnet.cpu import cpu_count
from paddleseg_encnet.scene_objects import (
    BARRIERS, BICYCLE, BUILDING, CLASSES, CROWNS, IGNORE, LIGHTS, MOTORCYCLE,
    ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, VEHICLES, Camera, Canvas,
    draw_barrier, draw_bin, draw_block, draw_cycle, draw_gantry, draw_hood,
    draw_house, draw_lamp_post, draw_person, draw_sign, draw_traffic_light,
    draw_tree, draw_vehicle, pick, vary)

__all__ = ['CLASSES', 'IGNORE', 'KINDS', 'SPLITS', 'generate', 'render',
           'scene_names']

SPLITS = ('train', 'val')
MIN_SIZE = (64, 32)
RECORD = 'scenes.json'
VERSION = 1  # raise when the same seed no longer draws the same pictures
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

    def __init__(self, name, rng):
        kind = self.kind = KINDS[name]
        self.name, self.rng, self.things = name, rng, []
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

    def add(self, depth, draw, *args, box=None):
        """Adds a thing: whatever has the largest `depth` is drawn first.
        `box` (x0, x1, z0, z1, low, high) is what throws its shadow."""
        self.things.append((depth, len(self.things), draw, args, box))

    def clear(self, z, margin=0.):
        """Whether z is off the crossing street by at least `margin`."""
        return not (self.junction[0] - margin < z < self.junction[1] + margin)

    def width(self, side):
        """Width of the sidewalk on that side."""
        return abs(self.walks[side] - self.edges[side])

    def steps(self, start, spacing, stop=FAR):
        """Positions along the street, `spacing` (a range) apart."""
        z = start
        while z < stop:
            yield z
            z += self.rng.uniform(*spacing)


# --- what stands where ----------------------------------------------------


def add_houses(layout):
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


def add_barriers(layout):
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


def add_trees(layout):
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


def add_furniture(layout):
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


def add_vehicle(layout, name, x, z, yaw=0.):
    """Adds a vehicle whose near end is at z, with its shadow."""
    width, height, length = VEHICLES[name].size
    aside = abs(np.sin(yaw)) > .5
    half_x, half_z = (length / 2, width / 2) if aside else (width / 2,
                                                            length / 2)
    layout.add(z, draw_vehicle, name, x, z + half_z, yaw,
               box=(x - half_x, x + half_x, z, z + 2 * half_z, 0., height))


def pick_vehicle(layout):
    """A name from the kind's table of traffic."""
    names = list(layout.kind.traffic)
    weights = np.array([layout.kind.traffic[n] for n in names], float)
    return names[int(layout.rng.choice(len(names), p=weights /
                                       weights.sum()))]


def add_traffic(layout):
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


def add_people(layout):
    """Puts people on the sidewalks and the zebra, riders on the road."""
    kind, rng = layout.kind, layout.rng

    def some(bounds):
        return range(int(rng.integers(bounds[0], bounds[1] + 1)))

    def add(draw, x, z, *args, wide=.25, high=1.7):
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


# --- ground, sky and light ------------------------------------------------


def draw_sky(canvas):
    """Paints the whole image with sky: a gradient to the haze, clouds."""
    camera, light, rng = canvas.camera, canvas.light, canvas.rng
    up = np.clip(1 - np.arange(camera.height) / camera.horizon, 0, 1)
    share = (up ** .7)[:, None, None]
    sky = (1 - share) * np.array(light.sky_low) + share * np.array(
        light.sky_top)
    cloud = np.zeros((camera.height, camera.width), np.float32)
    for cells, weight in ((3, .5), (6, .3), (14, .2)):
        noise = rng.random((cells * 2, cells)).astype(np.float32)
        cloud += weight * cv2.resize(noise, (camera.width, camera.height),
                                     interpolation=cv2.INTER_CUBIC)
    cover = np.clip((cloud - rng.uniform(.42, .62)) * 4., 0, .75)[..., None]
    white = np.array(light.haze) * .5 + np.array((255, 252, 248)) * .5
    sky = sky + cover * (np.minimum(white, 255) - sky) * .8
    canvas.image[:] = np.clip(sky, 0, 255).astype(np.uint8)
    canvas.label[:] = SKY


def draw_backdrop(canvas, style):
    """Closes the view at the horizon with hills, trees or far buildings."""
    camera, rng = canvas.camera, canvas.rng
    styles = {  # layers of (class, colour, height share, points, depth, steps)
        'hills': ((TERRAIN, (96, 112, 88), .06, 7, 420., False),
                  (VEGETATION, (70, 92, 56), .035, 60, 220., False)),
        'trees': ((VEGETATION, (66, 90, 52), .11, 50, 150., False),),
        'skyline': ((BUILDING, (150, 140, 132), .17, 16, 190., True),
                    (VEGETATION, (70, 92, 56), .045, 50, 150., False)),
    }
    for label, colour, height, count, depth, flat in styles[style]:
        u = np.linspace(-.05, 1.05, count) * camera.width
        v = camera.horizon - camera.height * height * rng.uniform(
            .35, 1.15, count)
        if flat:
            u, v = np.repeat(u, 2)[1:], np.repeat(v, 2)[:-1]
        line = np.concatenate((np.stack((u, v), -1), (
            (u[-1], camera.horizon + 2), (u[0], camera.horizon + 2))))
        canvas.fill([line], canvas.tone(vary(rng, colour, 6), (0, .5, -1),
                                        depth), label)


def draw_ground(canvas, layout):
    """Draws the road with its markings, the sidewalks and what is beside."""
    rng, kind, edges = canvas.rng, layout.kind, layout.edges
    meadow = vary(rng, pick(rng, ((96, 112, 56), (120, 118, 70),
                                  (84, 108, 60), (134, 118, 84))), 8)
    slabs = vary(rng, pick(rng, ((150, 146, 142), (164, 152, 142),
                                 (132, 132, 134))), 8)
    tar = vary(rng, pick(rng, ((92, 92, 96), (108, 106, 106), (78, 80, 86))),
               7)
    town = kind.houses == 'block'
    canvas.ground(-500., 500., 0., 500., slabs if town else meadow,
                  SIDEWALK if town else TERRAIN)
    start, stop = layout.junction
    for z0, z1 in ((0., start), (stop, 2 * FAR)):
        if kind.sidewalk[1] and z0 < z1:
            for side, edge in edges.items():
                outer = layout.walks[side]
                canvas.ground(edge, outer, z0, z1, slabs, SIDEWALK)
                joints = np.arange(4., 40., 1.5)
                canvas.polygons([((edge, 0, z), (outer, 0, z),
                                  (outer, 0, z + .05), (edge, 0, z + .05))
                                 for z in joints if layout.clear(z)],
                                slabs * .82)
    canvas.ground(edges[-1], edges[1], 0., 2 * FAR, tar, ROAD)
    if layout.median:
        canvas.ground(layout.middle - layout.median, layout.middle, 0.,
                      2 * FAR, meadow, TERRAIN)
    if start < FAR:
        canvas.ground(-90., 90., start, stop, tar, ROAD)
    for side, edge in edges.items() if kind.sidewalk[1] else ():
        for z0, z1 in ((0., start), (stop, FAR)):  # the kerb
            if z0 < z1:
                canvas.ground(edge, edge + side * .18, z0, z1, slabs * 1.15,
                              SIDEWALK)
    for x, _ in layout.lanes:  # where the tyres run the road is darker
        for track in (-.75, .75):
            canvas.ground(x + track - .25, x + track + .25, 0., 80.,
                          tar * .93)
    if 'tram' in kind.traffic:
        for x in {layout.lanes[-1][0], layout.lanes[-2][0]}:
            for rail in (-.72, .72):
                canvas.ground(x + rail - .06, x + rail + .06, 0., FAR,
                              (62, 64, 70))
    draw_markings(canvas, layout)


def draw_markings(canvas, layout):
    """Paints the lines between lanes, at the edges and the zebra."""
    rng, paint = canvas.rng, vary(canvas.rng, (214, 214, 208), 8)
    start, stop = layout.junction
    spans = ((0., start - 7.), (stop + 1., FAR))
    if layout.name != 'residential':
        for x in layout.lines:
            for z0, z1 in spans:
                if z0 < z1:
                    canvas.ground(x - .07, x + .07, z0, z1, paint)
    dashes = list(layout.marks)
    middle = layout.middle - layout.median / 2
    if layout.median:
        for x in (layout.middle, layout.middle - layout.median):
            canvas.ground(x - .08, x + .08, 0., FAR, paint)
    else:
        dashes.append(middle)
    begin = rng.uniform(0., 6.)
    z = np.arange(begin, 110., 9. if layout.median else 6.)
    z = z[[layout.clear(d, 7.) for d in z]]
    for x in dashes:
        canvas.polygons([((x - .07, 0, d), (x + .07, 0, d),
                          (x + .07, 0, d + 3.), (x - .07, 0, d + 3.))
                         for d in z], paint)
    if start < FAR:
        stripes = np.arange(layout.edges[-1] + .4, layout.edges[1] - .5, 1.)
        for near in (start - 5.2, stop + 1.):
            canvas.polygons([((x, 0, near), (x + .5, 0, near),
                              (x + .5, 0, near + 3.4), (x, 0, near + 3.4))
                             for x in stripes], paint * 1.08)
        canvas.ground(layout.middle, layout.edges[1], start - 6.4,
                      start - 6., paint)


def draw_shadows(canvas, layout):
    """Darkens the ground where things keep the sun or the sky off it."""
    camera, sun = canvas.camera, np.asarray(canvas.sun)
    mask = np.zeros(canvas.label.shape, np.uint8)
    strength = np.mean(canvas.light.sun)
    cast = strength / (strength + np.mean(canvas.light.ambient))
    boxes = [thing[-1] for thing in layout.things if thing[-1]]
    for share, slope in ((cast, sun / sun[1]), (.62, np.zeros(3))):
        for x0, x1, z0, z1, low, high in boxes:
            if not slope.any() and low:
                continue  # only what touches the ground darkens its foot
            points = np.array([(x, y, z) for x in (x0, x1) for y in (low, high)
                               for z in (z0, z1)])
            points = points - points[:, 1:2] * slope
            points[:, 1] = 0.
            if points[:, 2].max() > .5:
                outline = np.round(camera.pixels(points) * 16).clip(-1e6, 1e6)
                hull = cv2.convexHull(outline.astype(np.int32))
                cv2.fillConvexPoly(mask, hull, int(255 * share), cv2.LINE_AA,
                                   4)
    soft = cv2.GaussianBlur(mask, (0, 0), max(.4, camera.width / 500.))
    flat = np.isin(canvas.label, (ROAD, SIDEWALK, TERRAIN))
    dim = 1 - soft.astype(np.float32) / 255. * flat
    canvas.image[:] = (canvas.image * dim[..., None]).astype(np.uint8)


def texture(canvas):
    """The grain of asphalt, slabs, grass and leaves, as a factor around 1 for
    each pixel; that of the ground gets finer with the distance."""
    camera, rng, label = canvas.camera, canvas.rng, canvas.label
    tile = rng.normal(0, 1, (128, 128)).astype(np.float32)
    tile = tile * .6 + cv2.GaussianBlur(tile, (0, 0), 3.) * 5.
    x, z = camera.ground()
    ground = cv2.remap(tile, (x * 14.) % 127, (z * 7.) % 127,
                       cv2.INTER_LINEAR)
    ground *= np.exp(-z / 25.)
    cells = max(8, camera.height // 2), max(16, camera.width // 2)
    leaves = cv2.resize(rng.normal(0, 1, cells).astype(np.float32),
                        (camera.width, camera.height))
    amount = np.zeros((2, 256), np.float32)
    amount[0, [ROAD, SIDEWALK, TERRAIN]] = .045, .05, .16
    amount[1, [BUILDING, VEGETATION, TERRAIN]] = .018, .10, .05
    return 1 + ground * amount[0][label] + leaves * amount[1][label]


def develop(canvas):
    """What lens and sensor make of the picture: blur, vignette, noise."""
    camera, rng = canvas.camera, canvas.rng
    picture = canvas.image.astype(np.float32)
    picture *= texture(canvas)[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0),
                               rng.uniform(.3, .55) * camera.width / 512 + .1)
    across = np.linspace(-1, 1, camera.width, dtype=np.float32) ** 2
    down = np.linspace(-1, 1, camera.height, dtype=np.float32) ** 2
    picture *= (1 - .1 * (across + down[:, None]))[..., None]
    picture *= (canvas.light.gain * rng.uniform(.94, 1.1) *
                rng.normal(1, .015, 3)).astype(np.float32)
    picture += rng.normal(0, rng.uniform(1.2, 3.2), picture.shape).astype(
        np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


# --- scenes and the data set ----------------------------------------------


def _check_size(size):
    width, height = (int(n) for n in size)
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        raise ValueError(
            'size {}x{} is too small for a scene: need at least {}x{} '
            '(width x height)'.format(width, height, *MIN_SIZE))
    return width, height


def render(kind, index, split='train', size=(512, 256), seed=0):
    """Draws one scene.

    The same arguments always give the same picture; it does not matter what
    else was drawn before.

    Args:
        kind (str): a key of `KINDS`.
        index (int): number of the scene within its split and kind, from 0.
        split (str): 'train' or 'val'; they never share a scene.
        size (tuple): (width, height) in pixels, at least 64x32.
        seed (int): not negative.

    Returns:
        tuple: image, (height, width, 3) uint8 RGB, and label, (height, width)
        uint8 train ids 0..18 or 255 for what belongs to no class.

    Raises:
        ValueError: unknown kind or split, negative number, too small a size.
    """
    if kind not in KINDS or split not in SPLITS:
        raise ValueError('no scene of kind {!r} in split {!r}: kinds are {}, '
                         'splits are {}'.format(kind, split, ', '.join(KINDS),
                                                ', '.join(SPLITS)))
    if min(seed, index) < 0:
        raise ValueError('seed and index must not be negative, got {} and '
                         '{}'.format(seed, index))
    width, height = _check_size(size)
    rng = np.random.default_rng(
        (seed, SPLITS.index(split), list(KINDS).index(kind), index))
    camera = Camera(width, height, rng.uniform(.78, 1.) * width,
                    rng.uniform(.4, .6) * width, rng.uniform(.4, .5) * height,
                    rng.uniform(1.3, 1.6))
    light = LIGHTS[int(rng.choice(3, p=(.5, .3, .2)))]
    rise, turn = rng.uniform(*light.sun_height), rng.uniform(-np.pi, np.pi)
    level = np.sqrt(1 - rise ** 2)
    canvas = Canvas(camera, light, (level * np.sin(turn), rise,
                                    level * np.cos(turn)), rng)
    layout = Layout(kind, rng)
    for add in (add_houses, add_barriers, add_trees, add_furniture,
                add_traffic, add_people):
        add(layout)
    draw_sky(canvas)
    draw_backdrop(canvas, layout.kind.backdrop)
    draw_ground(canvas, layout)
    draw_shadows(canvas, layout)
    for _, _, draw, args, _ in sorted(layout.things,
                                      key=lambda thing: (-thing[0], thing[1])):
        draw(canvas, *args)
    draw_hood(canvas, rng.uniform(.05, .09))
    return develop(canvas), canvas.label


def scene_names(split, count):
    """The scenes of a split: a list of (kind, index, image path, label path),
    paths relative to the root of the data set.  Kinds take turns."""
    names = []
    for i in range(count):
        index, turn = divmod(i, len(KINDS))
        city = list(KINDS)[turn]
        stem = '{}_{:06d}_000019_'.format(city, index)
        names.append((
            city, index,
            os.path.join('leftImg8bit', split, city, stem + 'leftImg8bit.png'),
            os.path.join('gtFine', split, city,
                         stem + 'gtFine_labelTrainIds.png')))
    return names


def _write_scene(root, size, seed, scene):
    split, kind, index, image_path, label_path = scene
    image, label = render(kind, index, split, size, seed)
    for path, pixels in ((image_path, image[..., ::-1]), (label_path, label)):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not cv2.imwrite(path, pixels):
            raise OSError('cannot write {}'.format(path))


@contextlib.contextmanager
def _processes(jobs):
    """A pool with a process for each core, but not for a handful of scenes."""
    # Forked where that is safe, as a new process would import Paddle first.
    # OpenCV's threads do not survive a fork, so it has none meanwhile.
    method = 'fork' if sys.platform.startswith('linux') else 'spawn'
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with multiprocessing.get_context(method).Pool(
                max(1, min(cpu_count(), jobs // 8))) as pool:
            yield pool
    finally:
        cv2.setNumThreads(threads)


def _is_complete(root, record):
    """Whether `root` holds the set that `record` describes; False if there is
    nothing yet.  Raises FileExistsError if it holds anything else."""
    if os.path.isdir(root) and not os.listdir(root):
        return False
    if not os.path.lexists(root):
        return False
    path = os.path.join(root, RECORD)
    if not os.path.isfile(path):
        raise FileExistsError(
            '{} exists, but holds no {} and so is no complete set of scenes: '
            'give another folder or delete it'.format(root, RECORD))
    with open(path, encoding='utf-8') as file:
        try:
            found = json.load(file)
        except ValueError:
            found = None
    if found != record:
        raise FileExistsError(
            '{} holds scenes made with other parameters ({} instead of {}): '
            'give another folder or delete it'.format(
                root, json.dumps(found), json.dumps(record)))
    for split in SPLITS:
        for name in scene_names(split, record[split]):
            for part in name[2:]:
                if not os.path.isfile(os.path.join(root, part)):
                    raise FileExistsError(
                        '{} lacks {}: delete the folder to have it made '
                        'anew'.format(root, part))
    return True


def generate(root, train=200, val=50, size=(512, 256), seed=0, progress=None):
    """Writes a data set of street scenes in the layout of Cityscapes.

    Files are `leftImg8bit/<split>/<kind>/<kind>_<6 digits>_000019_leftImg8bit
    .png` (8-bit RGB) and `gtFine/<split>/<kind>/<kind>_<6 digits>_000019_
    gtFine_labelTrainIds.png` (8 bit, one channel, 0..18 and 255), where kinds
    take turns, and `scenes.json` with the parameters.  They appear all at once
    when the last is drawn.  A complete set that has the same parameters is
    left as it is.

    Args:
        root (str): folder to write; must be absent, empty or such a set.
        train, val (int): number of scenes in each split, at least 1.
        size (tuple): (width, height) in pixels, at least 64x32.
        seed (int): not negative; the same seed gives the same files, and
            more scenes only add to fewer.
        progress (callable): called with (done, total) after each scene.

    Returns:
        bool: True if the set was written, False if it was there already.

    Raises:
        ValueError: a parameter is out of range.
        FileExistsError: `root` holds something else.
        OSError: a file cannot be written.
    """
    width, height = _check_size(size)
    if min(train, val) < 1 or seed < 0:
        raise ValueError('train and val must be at least 1 and seed not '
                         'negative, got {}, {} and {}'.format(train, val,
                                                              seed))
    record = {'version': VERSION, 'train': int(train), 'val': int(val),
              'size': [width, height], 'seed': int(seed)}
    root = os.path.abspath(root)
    if _is_complete(root, record):
        return False
    parent, name = os.path.split(root)
    os.makedirs(parent, exist_ok=True)
    # A sibling is on the same disk, so that the rename is a single step.
    work = tempfile.mkdtemp(prefix='.{}.'.format(name), dir=parent)
    try:
        whole = os.path.join(work, name)
        jobs = [(split, *scene) for split, count in zip(SPLITS, (train, val))
                for scene in scene_names(split, count)]
        write = functools.partial(_write_scene, whole, (width, height), seed)
        with _processes(len(jobs)) as pool:
            for done, _ in enumerate(pool.imap_unordered(write, jobs), 1):
                if progress is not None:
                    progress(done, len(jobs))
        with open(os.path.join(whole, RECORD), 'w', encoding='utf-8') as file:
            json.dump(record, file, indent=2)
            file.write('\n')
        if os.path.isdir(root):
            os.rmdir(root)  # it is empty, or this fails as it should
        os.rename(whole, root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True
