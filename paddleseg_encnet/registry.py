"""Puts our classes where PaddleSeg's config builder looks them up."""

from typing import Any, Optional

from paddleseg.cvlibs import manager


def register(kind: str, component: Any, name: Optional[str] = None, replaces: bool = False) -> None:
    """Registers `component` under `name` (default: its own) in PaddleSeg's manager of that kind ("MODELS", ...).

    PaddleSeg replaces a name with a warning that reads like a mistake. Here taking over a name is said by
    `replaces=True`, is silent, and is an error where it was not meant.
    """
    components = getattr(manager, kind).components_dict
    name = name or component.__name__
    if name in components and not replaces and components[name] is not component:
        raise KeyError(f"{kind} already has {name}: {components[name]}; another plugin registered it")
    components[name] = component
