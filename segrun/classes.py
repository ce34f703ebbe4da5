"""Names and colours of a network's classes: the one place where they are put together."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Type, Union

import numpy as np
from numpy.typing import NDArray

from segrun.palettes import color_table

UNNAMED = 255       # classes of a network that doesn't say how many it has


def id_type(count: int) -> Type["np.unsignedinteger[Any]"]:
    """The smallest type of number that holds so many class ids and one more, for what is unknown."""
    return np.uint8 if count <= 255 else np.uint16


@dataclass(eq=False)
class Classes:
    """The classes of a network.

    Args:
        names: of class 0, of class 1, ...
        given: R, G, B of class 0, of class 1, ..., 0 to 255; the rest have PaddleSeg's colours.
    """
    names: List[str]
    given: Sequence[Sequence[int]] = ()
    tables: Dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def of_export(cls, description: Mapping[str, Any]) -> "Classes":
        """Of what a deploy.yaml says. An export by PaddleSeg's own tool names no classes: they go by their numbers."""
        names = [str(name) for name in description.get("class_names") or []]
        return cls(names or [f"class {i}" for i in range(UNNAMED)], description.get("palette") or ())

    @property
    def colors(self) -> NDArray[Any]:
        """uint8 [256 or 65536, 3], RGB, for each id that a mask of these classes can hold; the last one is unknown."""
        return self.colors_of(id_type(len(self.names)))

    def colors_of(self, ids: Union["np.dtype[Any]", Type["np.integer[Any]"]]) -> NDArray[Any]:
        """The same for masks of this type of number."""
        size = np.iinfo(ids).max + 1
        if size not in self.tables:
            self.tables[size] = color_table(None, [value for color in self.given for value in color], size)
        return self.tables[size]

    def name(self, number: int) -> str:
        return self.names[number] if number < len(self.names) else "unknown"

    def shares(self, *masks: NDArray[Any]) -> Dict[int, float]:
        """The share of the masks' pixels that each class has which is there, the largest first."""
        counts = np.sum([np.bincount(mask.reshape(-1), minlength=np.iinfo(mask.dtype).max + 1) for mask in masks],
                        axis=0)
        return {int(i): counts[i] / counts.sum() for i in np.argsort(-counts, kind="stable") if counts[i]}
