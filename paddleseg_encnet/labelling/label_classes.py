"""Which labels are classes, in which order, and what becomes of the others."""

import os
import unicodedata
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence

from paddleseg_encnet.labelling.project import IGNORED, LabelClasses, Rules, Tally
from segrun.errors import DataError
from segrun.raw_files import read_lines

BACKGROUND = "background"
# As labelme's own list of labels has them.
ALIASES = {"_background_": BACKGROUND}
IGNORE_LABEL = "__ignore__"


@dataclass(frozen=True)
class LabelUse:
    """Where a label was seen."""
    count: int
    first: str


def count(uses: Iterable[tuple]) -> Dict[str, LabelUse]:
    """{label: LabelUse} of pairs (label, where)."""
    found: Dict[str, LabelUse] = {}
    for label, where in uses:
        found[label] = LabelUse(found[label].count + 1, found[label].first) if label in found else LabelUse(1, where)
    return found


def read_names(path: str) -> List[str]:
    """The lines of a list of labels, in the order of their ids.

    Raises:
        DataError: it can't be read, is empty, or has a name twice.
    """
    if not os.path.isfile(path):
        raise DataError(f"cannot read the list of labels {path}: there is no such file")
    names = [ALIASES.get(line.strip(), line.strip()) for line in read_lines(path, "list of labels") if line.strip()]
    if not names:
        raise DataError(f"the list of labels {path} is empty; it has a name a line, in the order of the class ids")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has {twice[0]} twice; each line is a class of its own")
    return names


def settle_spelling(labels: Sequence[str], uses: Dict[str, LabelUse], fixed: Sequence[str], rules: Rules,
                    tally: Tally) -> Dict[str, str]:
    """{label: how it is written from here on}, of labels that look like one: they differ in capitals, in the width of
    their letters or in spaces alone.

    Args:
        labels: the source's, in their order.
        uses: those that are used.
        fixed: names that are classes as they are written: of a list, or background.

    Raises:
        DataError: the rule is to stop at them, or to keep apart what no list of names can.
    """
    alike: Dict[str, List[str]] = {}
    for label in dict.fromkeys([*fixed, *labels, *uses]):
        alike.setdefault(plainly(label), []).append(label)
    written: Dict[str, str] = {}
    for group in alike.values():
        text = ", ".join(f"{label!r} ({uses[label].count} x, first in {uses[label].first})" if label in uses
                         else repr(label) for label in group)
        written.update({label: label.strip() for label in group})
        if len(group) == 1:
            if group[0] != group[0].strip():
                tally.add("labels with spaces at their ends: taken without", text)
            continue
        if rules.similar == "stop":
            raise DataError(f"labels that differ in capitals, width or spaces alone: {text} (--similar stop)")
        if rules.similar == "join":
            most = max(group, key=lambda label: uses[label].count if label in uses else 0)
            name = next((label for label in group if label in fixed), most).strip()
            written.update({label: name for label in group if label not in fixed})
        elif len({written[label] for label in group}) < len(group):
            raise DataError(f"labels that differ in the spaces at their ends alone: {text}; no list of names keeps "
                            "them apart: correct them, or add --similar join")
        what = "one class" if rules.similar == "join" else "each a class of its own"
        tally.add(f"labels that differ in capitals, width or spaces alone: {what} (--similar {rules.similar})", text)
    return written


def plainly(label: str) -> str:
    """A label without what is easily written otherwise."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def settle_classes(found: List[str], labels: Optional[str], ignore: List[str], rules: Rules) -> LabelClasses:
    """The classes of a project of shapes.

    Args:
        found: the labels of the source, in the order that their ids are to have without a list.
        labels: a file of names in the order of their ids, or None.
        ignore: labels that become 255.

    Raises:
        DataError: the list can't be read, or has no place for pixels without a shape; there is no class, or too many.
    """
    names = read_names(labels) if labels else [name for name in found if name != BACKGROUND]
    if not labels and (rules.rest == BACKGROUND or BACKGROUND in found):
        names = [BACKGROUND, *names]
    ignored = frozenset([*ignore, IGNORE_LABEL])
    never = [name for name in ignore if name not in found and name not in names]
    if never:
        raise DataError(f"--ignore {never[0]}: no label is called so; there are {', '.join(found)}")
    names = [name for name in names if name not in ignored]
    if rules.rest == BACKGROUND and BACKGROUND not in names:
        raise DataError(f"{labels or '--ignore'} leaves no class {BACKGROUND} for pixels that no shape covers: name it "
                        "there, or add --rest ignore")
    return LabelClasses(enough(names, labels or "the labels"), ignored)


def enough(names: List[str], source: str) -> List[str]:
    """The names, if masks of 8 bits have ids for them, and labels.txt a line."""
    broken = [name for name in names if len(name.splitlines()) != 1 or not name.strip()]
    if broken:
        raise DataError(f"{source}: no class can be called {broken[0]!r}")
    if not 1 <= len(names) <= IGNORED:
        raise DataError(f"{source}: {len(names)} classes; there must be 1 to {IGNORED}, as 255 is for no class")
    return names


def unknown(found: Dict[str, LabelUse], classes: LabelClasses, rules: Rules, source: str, tally: Tally) -> LabelClasses:
    """The classes, with unknown labels among the ignored ones where that is the rule.

    Raises:
        DataError: there are unknown labels, and the rule is to stop.
    """
    strangers = {label: use for label, use in found.items() if classes.id(label) is None}
    for label, use in strangers.items():
        text = f"{label!r}, {use.count} x, first in {use.first}"
        if rules.unknown == "stop":
            near = [name for name in classes.names if plainly(name) == plainly(label)]
            joined = f"; --similar join takes it for {near[0]}" if near else ""
            more = f" (and {len(strangers) - 1} more labels)" if len(strangers) > 1 else ""
            raise DataError(f"the label {text}, is not in {os.path.normpath(source)}{more}: correct one of them, or "
                            f"add --unknown ignore or --unknown leave_out{joined}")
        tally.add("labels that are not in the list: " + {"ignore": "their pixels are ignored (255)",
                                                        "leave_out": "their shapes are left out"}[rules.unknown], text)
    if rules.unknown == "ignore":
        return classes._replace(ignored=classes.ignored | set(strangers))
    return classes
