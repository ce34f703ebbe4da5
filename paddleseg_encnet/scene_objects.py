"""The drawing side of the street scenes: camera, light, canvas and objects.

Everything is said in metres and drawn through one pinhole camera, so that
sizes, perspective and occlusion follow from where a thing stands:

* ``x`` points right, ``y`` up and ``z`` along the street, away from the
  viewer.  The origin lies on the ground below the camera.
* ``yaw`` turns a thing about the vertical; at 0 its front points along ``z``,
  so the viewer sees its rear.
* Colours are RGB from 0 to 255 as the thing has them in white light;
  :class:`Light` turns them into what the camera sees.

Things hide what was drawn before them, hence whoever calls the ``draw_*``
functions calls them from far to near.  :mod:`paddleseg_encnet.scenes` does.
"""

import math
from collections import namedtuple

import cv2
import numpy as np

#: Names of the 19 Cityscapes classes; the position is the train id.
CLASSES = ('road', 'sidewalk', 'building', 'wall', 'fence', 'pole',
           'traffic light', 'traffic sign', 'vegetation', 'terrain', 'sky',
           'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle',
           'bicycle')
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN,
 VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE,
 BICYCLE) = range(len(CLASSES))
IGNORE = 255

NEAR = 0.5  # metres; nothing is drawn closer to the camera than this
SHIFT = 4  # cv2 takes coordinates with this many bits behind the point
FACING = (0., 0.3, -1.)  # normal of flat cutouts: to the viewer, a bit up

Light = namedtuple(
    'Light', 'name sky_top sky_low haze visibility ambient sun sun_height '
    'lamps gain')
#: Ambient and sun are RGB factors, visibility is in metres, sun_height the
#: range of the sine of the sun's elevation, lamps the share of lit windows.
LIGHTS = (
    Light('day', (88, 138, 204), (196, 217, 236), (200, 214, 228), 420.,
          (.58, .61, .68), (.56, .53, .46), (.45, .8), 0., 1.),
    Light('overcast', (168, 175, 183), (219, 221, 222), (208, 211, 213), 230.,
          (.82, .83, .84), (.06, .06, .06), (.7, .9), .06, .96),
    Light('dusk', (62, 76, 124), (238, 178, 128), (190, 154, 140), 300.,
          (.40, .40, .50), (.46, .31, .19), (.22, .38), .4, .95),
)

# Typical paints; the list is long so that a colour does not tell the class.
PAINTS = ((28, 29, 32), (70, 73, 78), (125, 129, 133), (186, 189, 191),
          (232, 232, 229), (232, 232, 229), (28, 29, 32), (150, 28, 30),
          (34, 62, 128), (26, 84, 60), (212, 172, 44), (96, 58, 40),
          (74, 124, 168), (214, 106, 38), (176, 168, 146))
CLOTHES = PAINTS + ((46, 58, 92), (40, 44, 56), (120, 96, 74), (196, 70, 104),
                    (90, 110, 72))
SKINS = ((236, 196, 168), (206, 156, 124), (150, 104, 74), (92, 62, 46))
HAIRS = ((32, 26, 22), (82, 56, 34), (176, 140, 86), (120, 116, 112))
FACADES = ((198, 178, 146), (172, 104, 80), (206, 202, 194), (148, 140, 132),
           (214, 188, 128), (128, 84, 70), (176, 186, 190), (188, 148, 132),
           (150, 164, 140), (226, 220, 206), (112, 118, 128), (140, 160, 186))
ROOFS = ((142, 66, 48), (110, 54, 44), (74, 72, 76), (96, 84, 74),
         (160, 90, 62))
GREENS = ((70, 104, 46), (58, 90, 48), (92, 116, 52), (112, 112, 48),
          (48, 78, 50), (150, 112, 48))
TRIM = {
    'glass': (38, 48, 58), 'tail': (186, 24, 28), 'lamp': (240, 238, 222),
    'plate': (226, 226, 216), 'dark': (30, 31, 34), 'grey': (122, 124, 128),
    'white': (228, 228, 224), 'line': (60, 62, 66), 'display': (238, 164, 40),
}


def pick(rng, options):
    """One of a sequence, kept as it is (``rng.choice`` would make arrays)."""
    return options[int(rng.integers(len(options)))]


def vary(rng, colour, spread=14.):
    """`colour` a bit lighter or darker and a bit off in hue, as an array."""
    jitter = rng.normal(0., spread) + rng.normal(0., spread / 3., 3)
    return np.clip(np.asarray(colour, float) + jitter, 8., 248.)


class Camera:
    """A pinhole camera over flat ground, looking along the street.

    Args:
        width, height (int): size of the image in pixels.
        focal (float): focal length in pixels.
        centre (float): column of the vanishing point of the street.
        horizon (float): row of the horizon.
        eye (float): height of the camera over the ground in metres.
    """

    def __init__(self, width, height, focal, centre, horizon, eye):
        self.width, self.height = width, height
        self.focal, self.centre, self.horizon = focal, centre, horizon
        self.position = (0., float(eye), 0.)

    def project(self, x, y, z):
        """Pixel coordinates ``u, v`` of points in metres (arrays broadcast).

        Points nearer than `NEAR` are moved to it.  That is exact for edges
        along the street, and edges across it are out of sight there.
        """
        scale = self.focal / np.maximum(z, NEAR)
        return (self.centre + x * scale,
                self.horizon + (self.position[1] - y) * scale)

    def pixels(self, points):
        """`project` for an array of points: (..., 3) metres to (..., 2)."""
        pixels = np.empty(points.shape[:-1] + (2,))
        pixels[..., 0], pixels[..., 1] = self.project(
            points[..., 0], points[..., 1], points[..., 2])
        return pixels

    def ground(self):
        """Where each pixel's ray meets the ground: two (height, width) arrays
        ``x, z`` in metres; far beyond everything above the horizon."""
        below = np.arange(self.height, dtype=np.float32) - self.horizon
        z = self.focal * self.position[1] / np.maximum(below, 0.1)
        across = np.arange(self.width, dtype=np.float32) - self.centre
        return (np.outer(z, across / self.focal).astype(np.float32),
                np.repeat(z[:, None], self.width, 1).astype(np.float32))


class Canvas:
    """An image and its label map, always drawn into together.

    Attributes:
        image (ndarray): (height, width, 3) uint8, RGB, anti-aliased.
        label (ndarray): (height, width) uint8 train ids, never blended.
    """

    def __init__(self, camera, light, sun, rng):
        self.camera, self.light, self.rng = camera, light, rng
        self.sun = tuple(map(float, sun))
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.label = np.full((camera.height, camera.width), IGNORE, np.uint8)

    def tone(self, colour, normal, depth):
        """What the camera sees of a surface of `colour` at `depth` metres."""
        light = self.light
        length = max(sum(n * n for n in normal) ** .5, 1e-9)
        facing = max(0., sum(n * s for n, s in zip(normal, self.sun)) / length)
        # The sky lights what looks up more than what looks down.
        share = .88 + .12 * normal[1] / length
        clear = math.exp(-depth / light.visibility)
        return tuple(
            min(max(clear * c * (ambient * share + sun * facing) +
                    (1. - clear) * haze, 0.), 255.)
            for c, ambient, sun, haze in zip(colour, light.ambient, light.sun,
                                             light.haze))

    def fill(self, contours, seen, label=None):
        """Fills pixel contours, a list of (n, 2) arrays.

        `seen` is the RGB in the image (None: leave the image alone), `label`
        the class (None: a detail of what lies below).  Contours inside others
        are holes.
        """
        fixed = [np.rint(c * (1 << SHIFT)).astype(np.int32) for c in contours]
        if seen is not None:
            cv2.fillPoly(self.image, fixed, seen, cv2.LINE_AA, SHIFT)
        if label is not None:
            cv2.fillPoly(self.label, fixed, label, cv2.LINE_8, SHIFT)

    def polygon(self, points, colour, label=None):
        """Draws one flat polygon of (n, 3) points in metres, lit and hazed."""
        points = np.asarray(points, float)
        self.polygons(points[None], colour, label)

    def polygons(self, points, colour, label=None):
        """Draws (m, n, 3) polygons of one plane and colour in one go; they
        must not overlap each other."""
        points = np.asarray(points, float)
        points = points[points[..., 2].max(-1) > NEAR]
        if not len(points):
            return
        normal = towards(points[0, :3].tolist(), self.camera.position)
        depth = float(np.maximum(points[..., 2], NEAR).mean())
        seen = self.tone(colour, normal, depth)
        self.fill(list(self.camera.pixels(points)), seen, label)

    def ground(self, x0, x1, z0, z1, colour, label=None, y=0.):
        """Draws a rectangle that lies flat at height `y`."""
        self.polygon(((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)),
                     colour, label)


def towards(corners, eye):
    """The normal of a plane through three (x, y, z) on the side of `eye`.

    Written out, as NumPy's cross takes longer than all else on a polygon.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    if x * (eye[0] - ax) + y * (eye[1] - ay) + z * (eye[2] - az) < 0:
        return -x, -y, -z
    return x, y, z


def patches(face, rects):
    """Parts of a four-cornered face in its own coordinates.

    Args:
        face: (4, 3) corners: bottom start, bottom end, top end, top start.
        rects: (n, 4) of s0, t0, s1, t1 in 0..1; s along the bottom, t up.

    Returns:
        (n, 4, 3) corners in metres, right in perspective.
    """
    s0, t0, s1, t1 = np.asarray(rects, float).reshape(-1, 4).T
    s = np.stack((s0, s1, s1, s0), 1)[..., None]
    t = np.stack((t0, t0, t1, t1), 1)[..., None]
    a, b, c, d = np.asarray(face, float)
    return (1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * d + s * c)


class Solid:
    """A box, or with `inset` a box whose top is smaller than its bottom.

    Args:
        place: (x, z, yaw) of the thing it belongs to.
        size: (width, height, length) in metres.
        base: height of its bottom over the ground.
        forward: shift of its middle along the thing's own axis.
        inset: how far the top edge steps back at (both sides, rear, front).
    """
    FACES = {'rear': (0, 1, 5, 4), 'front': (3, 2, 6, 7),
             'left': (0, 3, 7, 4), 'right': (1, 2, 6, 5), 'top': (4, 5, 6, 7)}

    def __init__(self, place, size, base=0., forward=0., inset=(0., 0., 0.)):
        width, height, length = size
        side, rear, front = inset
        half, tip = width / 2, width / 2 - side
        back, ahead = forward - length / 2, forward + length / 2
        top = base + height
        self.corners = locate(place, (
            (-half, base, back), (half, base, back),
            (half, base, ahead), (-half, base, ahead),
            (-tip, top, back + rear), (tip, top, back + rear),
            (tip, top, ahead - front), (-tip, top, ahead - front)))

    def visible(self, eye):
        """(name, (4, 3) corners) of the faces that look towards `eye`."""
        middle = self.corners.mean(0).tolist()
        corners = self.corners.tolist()
        for name, index in self.FACES.items():
            a, b, _, d = (corners[i] for i in index)
            # In sight if the eye is on the other side than the middle.
            x, y, z = towards((a, b, d), eye)
            if x * (middle[0] - a[0]) + y * (middle[1] - a[1]) + \
                    z * (middle[2] - a[2]) < 0:
                yield name, self.corners[list(index)]

    def draw(self, canvas, colour, label, details=None):
        """Draws the faces in sight; `details` maps a face's name to
        ((trim or colour, s0, t0, s1, t1), ...) drawn on it."""
        details = details or {}
        for name, face in self.visible(canvas.camera.position):
            canvas.polygon(face, colour, label)
            for paint, *rect in details.get(name, ()):
                canvas.polygon(patches(face, rect)[0],
                               TRIM.get(paint, colour), label)


def locate(place, points):
    """Points (right, up, ahead) of a thing at (x, z, yaw) in scene metres."""
    x, z, yaw = place
    points = np.asarray(points, float)
    right, up, ahead = points[..., 0], points[..., 1], points[..., 2]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack((x + right * cos + ahead * sin, up,
                     z - right * sin + ahead * cos), -1)


def circle(centre, radius, count=16, phase=0., flat=1.):
    """(count, 2) corners around `centre`; `flat` squeezes the width."""
    angle = phase + np.arange(count) * (2 * np.pi / count)
    ring = np.stack((np.cos(angle) * flat, np.sin(angle)), -1)
    return np.asarray(centre, float) + radius * ring


# --- vehicles -------------------------------------------------------------

Part = namedtuple('Part', 'size base forward inset paint layer details')
Vehicle = namedtuple('Vehicle', 'label size wheel axles parts')


def _both(*rects):
    return {'left': rects, 'right': rects}


def _car(label, length, height, hood, boot, slope):
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


def _windows(count, low, high, gap=.012):
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


def draw_vehicle(canvas, kind, x, z, yaw=0.):
    """Draws a vehicle of `VEHICLES` whose middle stands at (x, z)."""
    rng, eye = canvas.rng, canvas.camera.position
    vehicle, place = VEHICLES[kind], (x, z, yaw)
    body = vary(rng, pick(rng, PAINTS), 8)
    paints = {None: body, 'cargo': vary(rng, pick(rng, PAINTS + FACADES), 8)}

    def order(part):  # far parts first, what stands on others last
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


def draw_wheels(canvas, vehicle, place):
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


# --- people and two-wheelers ----------------------------------------------


class Cutout:
    """A flat figure that faces the viewer at ground point (x, z).

    Its shapes are in metres: (right, up) from the point on the ground,
    times `scale`; `flip` -1 mirrors it.
    """

    def __init__(self, canvas, x, z, label, scale=1., flip=1):
        self.canvas, self.x, self.z, self.label = canvas, x, z, label
        self.stretch = np.array((scale * flip, scale))

    def pixels(self, shape):
        shape = np.asarray(shape, float) * self.stretch
        return np.stack(self.canvas.camera.project(
            self.x + shape[:, 0], shape[:, 1], self.z), -1)

    def polygon(self, shape, colour):
        self.canvas.fill([self.pixels(shape)],
                         self.canvas.tone(colour, FACING, self.z), self.label)

    def disc(self, centre, radius, colour, flat=1.):
        self.polygon(circle(centre, radius, flat=flat), colour)

    def limb(self, start, end, width, colour):
        """A bar with blunt ends, `width` metres wide."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        along = (end - start) / max(np.hypot(*(end - start)), 1e-6) * width / 2
        across = np.array((-along[1], along[0]))
        tip = along * .6
        self.polygon((start + across, start - tip, start - across,
                      end - across, end + tip, end + across), colour)

    def wheel(self, centre, radius, width, colour):
        """A spoked wheel from the side: a ring one can look through, which
        the label covers whole as Cityscapes' annotators do."""
        rim, hole = circle(centre, radius), circle(centre, radius - width)
        self.canvas.fill([self.pixels(rim)], None, self.label)
        self.canvas.fill([self.pixels(rim), self.pixels(hole)],
                         self.canvas.tone(colour, FACING, self.z))


def _head(figure, centre, rng, helmet=None):
    skin, hair = pick(rng, SKINS), helmet or pick(rng, HAIRS)
    x, y = centre
    figure.disc((x, y), .115, skin, flat=.85)
    arc = circle((x, y + .02), .125, flat=.9)
    figure.polygon(arc[arc[:, 1] >= y + .015], hair)


def draw_person(canvas, x, z, stride=.1, scale=1., flip=1):
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


def draw_cycle(canvas, x, z, kind=BICYCLE, aside=True, ridden=True, flip=1):
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


def _draw_bicycle(figure, paint):
    for hub in (-.52, .52):
        figure.wheel((hub, .34), .34, .055, TRIM['dark'])
    rear, crank, seat, head = (-.52, .34), (-.06, .3), (-.2, .85), (.38, .84)
    for start, end in ((rear, crank), (crank, seat), (seat, rear),
                       (crank, head), (head, seat), (head, (.52, .34))):
        figure.limb(start, end, .055, paint)
    figure.limb((-.32, .93), (-.1, .93), .07, TRIM['dark'])
    figure.limb((.3, 1.02), (.5, 1.), .06, TRIM['dark'])
    figure.limb((.38, .84), (.38, 1.02), .05, paint)


def _draw_motorcycle(figure, paint):
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


def _draw_machine_end(figure, paint, motor):
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


def _draw_rider(figure, motor):
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


def _draw_rider_end(figure, motor):
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


# --- plants and buildings -------------------------------------------------

#: Outline of a crown: its half width (share of the height) at heights 0..1.
CROWNS = {
    'round': (.30, .52, .60, .56, .30),
    'tall': (.14, .22, .24, .20, .08),
    'conifer': (.36, .29, .22, .13, .03),
    'bush': (.75, .85, .8, .6, .35),
}


def draw_leaves(canvas, centres, radii, colour, bright):
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


def draw_tree(canvas, x, z, height=8., crown='round'):
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


def draw_windows(canvas, face, floors, columns, low=0.):
    """Draws a grid of framed windows on a face above the share `low`."""
    rng = canvas.rng
    rows, gaps = (1 - low) / floors, 1. / columns
    column, row = np.meshgrid(np.arange(columns), np.arange(floors))
    s, t = (column.ravel() + .5) * gaps, low + (row.ravel() + .46) * rows
    half_s, half_t = gaps * rng.uniform(.22, .36), rows * rng.uniform(.24, .34)
    lit = rng.random(s.size) < canvas.light.lamps

    def panes(grow, chosen):
        a, b = half_s * grow, half_t * (1 + (grow - 1) * .6)
        return patches(face, np.stack((s - a, t - b, s + a, t + b), 1)[chosen])

    frame = vary(rng, pick(rng, ((226, 224, 218), (120, 112, 104),
                                 (200, 190, 170))))
    glass = vary(rng, pick(rng, ((52, 62, 74), (84, 100, 116), (40, 44, 50))))
    canvas.polygons(panes(1.28, lit | True), frame)
    canvas.polygons(panes(1., ~lit), glass)
    # Lamps shine by themselves: undo part of the dim light of the evening.
    canvas.polygons(panes(1., lit), np.array((440, 350, 200.)))


def draw_block(canvas, x, z, size):
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


def draw_shops(canvas, face, count, low):
    """Draws shop windows, doors and signs in the lowest share of a face."""
    rng = canvas.rng
    start = np.arange(count) / count
    width = 1. / count
    shine = 1.5 if canvas.light.lamps > .2 else 1.

    def rects(s0, t0, s1, t1):
        return patches(face, np.stack(
            (start + s0 * width, np.full(count, t0 * low),
             start + s1 * width, np.full(count, t1 * low)), 1))

    glass = vary(rng, pick(rng, ((58, 66, 72), (92, 96, 96), (130, 118, 92))))
    canvas.polygons(rects(.08, .12, .68, .68), glass * shine)
    canvas.polygons(rects(.75, 0, .92, .66), vary(rng, pick(rng, PAINTS)))
    canvas.polygons(rects(.06, .7, .94, .88), vary(rng, pick(rng, PAINTS)))


def draw_house(canvas, x, z, size):
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


# --- barriers and street furniture ----------------------------------------

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


def draw_barrier(canvas, kind, colour, x, z0, z1):
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
        step = .2 * 2. / length
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


def draw_post(canvas, x, z, height, thick=.12, colour=(112, 116, 118)):
    """Draws an upright pole."""
    canvas.polygon(((x - thick / 2, 0, z), (x + thick / 2, 0, z),
                    (x + thick / 2, height, z), (x - thick / 2, height, z)),
                   colour, POLE)


def draw_lamp_post(canvas, x, z, height=7.5):
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


def draw_sign(canvas, x, z, height=2.4, radius=.42):
    """Draws a traffic sign on its pole; only the plate is a sign."""
    corners, phase, rim, face = pick(canvas.rng, SIGNS)
    draw_post(canvas, x, z, height, .09)
    plate = Cutout(canvas, x, z, TRAFFIC_SIGN)
    plate.polygon(circle((0, height), radius, corners, phase), rim)
    plate.polygon(circle((0, height), radius * .74, corners, phase), face)
    mark = vary(canvas.rng, (40, 40, 44) if face[0] > 200 else (236, 236, 236))
    plate.limb((-.05, height - .1), (.06, height + .12), .1, mark)


def draw_traffic_light(canvas, x, z, reach=0.):
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


def draw_gantry(canvas, x0, x1, z):
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


def draw_bin(canvas, x, z):
    """Draws a litter bin: `static` in Cityscapes, hence not labelled."""
    Solid((x, z, 0.), (.5, .95, .5), inset=(-.04, -.04, -.04)).draw(
        canvas, vary(canvas.rng, pick(canvas.rng, PAINTS)), IGNORE)


def draw_hood(canvas, reach):
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
