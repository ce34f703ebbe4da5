"""What things are made of: class ids, light and colours, all to be drawn from at random.

Colours are RGB from 0 to 255 as a thing has them in white light.
"""

from collections import namedtuple
from typing import Sequence, TypeVar, Union

import numpy as np

from segrun.palettes import CITYSCAPES

Option = TypeVar('Option')
Colour = Union[np.ndarray, Sequence[float]]     # R, G, B

CLASSES = tuple(CITYSCAPES)     # names; the position is the train id
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN,
 VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE,
 BICYCLE) = range(len(CLASSES))
IGNORE = 255

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


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of a sequence, kept as it is (``rng.choice`` would make arrays)."""
    return options[int(rng.integers(len(options)))]


def vary(rng: np.random.Generator, colour: Colour, spread: float = 14.) -> np.ndarray:
    """`colour` a bit lighter or darker and a bit off in hue, as an array."""
    jitter = rng.normal(0., spread) + rng.normal(0., spread / 3., 3)
    return np.clip(np.asarray(colour, float) + jitter, 8., 248.)
