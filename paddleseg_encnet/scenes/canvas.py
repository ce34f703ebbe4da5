"""Camera and canvas: whatever is drawn is said in metres and seen through one pinhole camera.

Sizes, perspective and occlusion follow from where a thing stands:

* `x` points right, `y` up and `z` along the street, away from the viewer; the origin lies below the camera.
* `yaw` turns a thing about the vertical; at 0 its front points along `z`, so the viewer sees its rear.

Things hide what was drawn before them: they are drawn from far to near.
"""

import math
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from numpy.typing import ArrayLike

from paddleseg_encnet.scenes.materials import IGNORE, TRIM, Colour, Light

NEAR = 0.5  # metres; nothing is drawn closer to the camera than this
FINE = 5.  # pixels; details of what is less high cannot be made out
SHIFT = 4  # cv2 takes coordinates with this many bits behind the point
FACING = (0., 0.3, -1.)  # normal of flat cutouts: to the viewer, a bit up


Numbers = Union[float, np.ndarray]
Points = Union[np.ndarray, Sequence[Sequence[float]]]      # [N, 3]: x, y, z in metres
Place = Tuple[float, float, float]     # x, z, yaw


class Camera:
    """A pinhole camera over flat ground, looking along the street.

    Args:
        width, height (int): size of the image in pixels.
        focal (float): focal length in pixels.
        centre (float): column of the vanishing point of the street.
        horizon (float): row of the horizon.
        eye (float): height of the camera over the ground in metres.
    """

    def __init__(self, width: int, height: int, focal: float, centre: float, horizon: float, eye: float):
        self.width, self.height = width, height
        self.focal, self.centre, self.horizon = focal, centre, horizon
        self.position = (0., float(eye), 0.)

    def project(self, x: Numbers, y: Numbers, z: Numbers) -> Tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates ``u, v`` of points in metres (arrays broadcast).

        Points nearer than `NEAR` are moved to it.  That is exact for edges
        along the street, and edges across it are out of sight there.
        """
        scale = self.focal / np.maximum(z, NEAR)
        return (self.centre + x * scale,
                self.horizon + (self.position[1] - y) * scale)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """`project` for an array of points: (..., 3) metres to (..., 2)."""
        pixels = np.empty(points.shape[:-1] + (2,))
        pixels[..., 0], pixels[..., 1] = self.project(
            points[..., 0], points[..., 1], points[..., 2])
        return pixels

    def ground(self) -> Tuple[np.ndarray, np.ndarray]:
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

    def __init__(self, camera: Camera, light: Light, sun: Sequence[float], rng: np.random.Generator):
        self.camera, self.light, self.rng = camera, light, rng
        self.sun = tuple(map(float, sun))
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.label = np.full((camera.height, camera.width), IGNORE, np.uint8)

    def tone(self, colour: Colour, normal: Sequence[float], depth: float) -> List[float]:
        """What the camera sees of a surface of `colour` at `depth` metres."""
        light = self.light
        (x, y, z), (sun_x, sun_y, sun_z) = normal, self.sun
        length = max(math.sqrt(x * x + y * y + z * z), 1e-9)
        facing = max(0., (x * sun_x + y * sun_y + z * sun_z) / length)
        # The sky lights what looks up more than what looks down.
        share = .88 + .12 * y / length
        clear = math.exp(-depth / light.visibility)
        return [
            min(max(clear * c * (ambient * share + sun * facing) +
                    (1. - clear) * haze, 0.), 255.)
            for c, ambient, sun, haze in zip(colour, light.ambient, light.sun,
                                             light.haze)]

    def fill(self, contours: Union[np.ndarray, Sequence[np.ndarray]], seen: Optional[Sequence[float]],
             label: Optional[int] = None) -> None:
        """Fills pixel contours: an (m, n, 2) array or a list of (n, 2) ones.

        `seen` is the RGB in the image (None: leave the image alone), `label`
        the class (None: a detail of what lies below).  Contours inside others
        are holes.
        """
        if isinstance(contours, np.ndarray):
            fixed = list(np.rint(contours * (1 << SHIFT)).astype(np.int32))
        else:
            fixed = [np.rint(c * (1 << SHIFT)).astype(np.int32)
                     for c in contours]
        self._paint(fixed, seen, label)

    def _paint(self, fixed: List[np.ndarray], seen: Optional[Sequence[float]], label: Optional[int]) -> None:
        if seen is not None:
            cv2.fillPoly(self.image, fixed, seen, cv2.LINE_AA, SHIFT)
        if label is not None:
            cv2.fillPoly(self.label, fixed, label, cv2.LINE_8, SHIFT)

    def polygon(self, points: Points, colour: Colour, label: Optional[int] = None) -> None:
        """Draws one flat polygon of (n, 3) points in metres, lit and hazed."""
        # As `polygons` does, but in plain numbers: most have four corners,
        # and arrays of four cost more than they save.
        corners = points.tolist() if isinstance(points, np.ndarray) else points
        depths = [max(z, NEAR) for _, _, z in corners]
        if max(depths) <= NEAR:
            return
        normal = towards(corners[:3], self.camera.position)
        tone = self.tone(colour, normal, sum(depths) / len(depths))
        camera, eye = self.camera, self.camera.position[1]
        contour, fine = [], 1 << SHIFT
        for (x, y, _), depth in zip(corners, depths):
            scale = camera.focal / depth
            contour.append((round((camera.centre + x * scale) * fine),
                            round((camera.horizon + (eye - y) * scale) * fine)))
        self._paint([np.array(contour, np.int32)], tone, label)

    def polygons(self, points: Union[np.ndarray, Sequence[Points]], colour: Colour,
                 label: Optional[int] = None) -> None:
        """Draws (m, n, 3) polygons of one plane and colour in one go; they
        must not overlap each other."""
        corners = np.asarray(points, float)
        depths = np.maximum(corners[..., 2], NEAR)
        in_front = depths.max(-1) > NEAR
        corners, depths = corners[in_front], depths[in_front]
        if not len(corners):
            return
        normal = towards(corners[0, :3].tolist(), self.camera.position)
        tone = self.tone(colour, normal, depths.sum() / depths.size)
        self.fill(self.camera.pixels(corners), tone, label)

    def ground(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, label: Optional[int] = None,
               y: float = 0.) -> None:
        """Draws a rectangle that lies flat at height `y`."""
        self.polygon(((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)),
                     colour, label)


def towards(corners: Sequence[Sequence[float]], eye: Sequence[float]) -> Tuple[float, float, float]:
    """The normal of a plane through three (x, y, z) on the side of `eye`.

    Written out, as NumPy's cross takes longer than all else on a polygon.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    if x * (eye[0] - ax) + y * (eye[1] - ay) + z * (eye[2] - az) < 0:
        return -x, -y, -z
    return x, y, z


def patches(face: np.ndarray, rects: ArrayLike) -> np.ndarray:
    """Parts of a four-cornered face in its own coordinates.

    Args:
        face: (4, 3) corners: bottom start, bottom end, top end, top start.
        rects: (n, 4) of s0, t0, s1, t1 in 0..1; s along the bottom, t up.

    Returns:
        (n, 4, 3) corners in metres, right in perspective.
    """
    rects = np.asarray(rects, float).reshape(-1, 4)
    s = rects[:, [0, 2, 2, 0], None]
    t = rects[:, [1, 1, 3, 3], None]
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

    def __init__(self, place: Place, size: Tuple[float, float, float], base: float = 0., forward: float = 0.,
                 inset: Tuple[float, float, float] = (0., 0., 0.)):
        width, height, length = size
        side, rear, front = inset
        half, tip = width / 2, width / 2 - side
        self.height = height
        back, ahead = forward - length / 2, forward + length / 2
        top = base + height
        self.corners = locate(place, (
            (-half, base, back), (half, base, back),
            (half, base, ahead), (-half, base, ahead),
            (-tip, top, back + rear), (tip, top, back + rear),
            (tip, top, ahead - front), (-tip, top, ahead - front)))

    def visible(self, eye: Sequence[float]) -> Iterator[Tuple[str, np.ndarray]]:
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

    def draw(self, canvas: Canvas, colour: Colour, label: Optional[int],
             details: Optional[Dict[str, Sequence[tuple]]] = None) -> None:
        """Draws the faces in sight; `details` maps a face's name to
        ((trim or colour, s0, t0, s1, t1), ...) drawn on it."""
        camera, nearest = canvas.camera, max(self.corners[:, 2].min(), NEAR)
        if camera.focal * self.height < FINE * nearest:
            details = None
        for name, face in self.visible(camera.position):
            canvas.polygon(face, colour, label)
            parts = details.get(name) if details else None
            if not parts:
                continue
            for (paint, *_), corners in zip(
                    parts, patches(face, [rect for _, *rect in parts])):
                canvas.polygon(corners, TRIM.get(paint, colour), label)


def locate(place: Place, points: ArrayLike) -> np.ndarray:
    """Points (right, up, ahead) of a thing at (x, z, yaw) in scene metres."""
    x, z, yaw = place
    points = np.asarray(points, float)
    right, up, ahead = points[..., 0], points[..., 1], points[..., 2]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack((x + right * cos + ahead * sin, up,
                     z - right * sin + ahead * cos), -1)


def circle(centre: ArrayLike, radius: float, count: int = 16, phase: float = 0., flat: float = 1.) -> np.ndarray:
    """(count, 2) corners around `centre`; `flat` squeezes the width."""
    angle = phase + np.arange(count) * (2 * np.pi / count)
    ring = np.stack((np.cos(angle) * flat, np.sin(angle)), -1)
    return np.asarray(centre, float) + radius * ring
