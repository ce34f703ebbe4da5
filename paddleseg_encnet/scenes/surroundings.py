"""Sky, backdrop, ground and shadows, and what lens and sensor make of the picture."""

import cv2
import numpy as np

from paddleseg_encnet.scenes.canvas import Canvas
from paddleseg_encnet.scenes.layout import FAR, Layout
from paddleseg_encnet.scenes.materials import BUILDING, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, pick, vary


def draw_sky(canvas: Canvas) -> None:
    """Paints the whole image with sky: a gradient to the haze, clouds."""
    camera, light, rng = canvas.camera, canvas.light, canvas.rng
    up = np.clip(1 - np.arange(camera.height) / camera.horizon, 0, 1)
    share = (up ** .7)[:, None, None].astype(np.float32)
    low, top, haze = np.array((light.sky_low, light.sky_top, light.haze),
                              np.float32)
    sky = (1 - share) * low + share * top
    cloud = np.zeros((camera.height, camera.width), np.float32)
    for cells, weight in ((3, .5), (6, .3), (14, .2)):
        noise = rng.random((cells * 2, cells)).astype(np.float32)
        cloud += weight * cv2.resize(noise, (camera.width, camera.height),
                                     interpolation=cv2.INTER_CUBIC)
    cover = np.clip((cloud - rng.uniform(.42, .62)) * 3.2, 0, .6)[..., None]
    white = (haze + np.array((255, 252, 248), np.float32)) / 2
    canvas.image[:] = np.clip(sky + cover * (white - sky), 0, 255)
    canvas.label[:] = SKY


def draw_backdrop(canvas: Canvas, style: str) -> None:
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


def draw_ground(canvas: Canvas, layout: Layout) -> None:
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


def draw_markings(canvas: Canvas, layout: Layout) -> None:
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


def draw_shadows(canvas: Canvas, layout: Layout) -> None:
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
    dim = np.where(flat, 255 - soft, 255).astype(np.uint8)
    canvas.image[:] = cv2.multiply(canvas.image, cv2.merge([dim] * 3),
                                   scale=1 / 255.)


def texture(canvas: Canvas) -> np.ndarray:
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


def develop(canvas: Canvas) -> np.ndarray:
    """What lens and sensor make of the picture: blur, vignette, noise."""
    camera, rng = canvas.camera, canvas.rng
    picture = canvas.image.astype(np.float32)
    picture *= cv2.merge([texture(canvas)] * 3)
    picture = cv2.GaussianBlur(picture, (0, 0),
                               rng.uniform(.3, .55) * camera.width / 512 + .1)
    across = np.linspace(-1, 1, camera.width, dtype=np.float32) ** 2
    down = np.linspace(-1, 1, camera.height, dtype=np.float32) ** 2
    vignette = 1 - .1 * (across + down[:, None])
    gains = canvas.light.gain * rng.uniform(.94, 1.1) * rng.normal(1, .015, 3)
    picture *= cv2.merge([vignette * np.float32(gain) for gain in gains])
    strength = np.float32(rng.uniform(1.2, 3.2))
    picture += strength * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)
