"""What was found in a data set, and the report of it."""

from collections import Counter
from typing import Any, Dict, List, NamedTuple


class Finding:
    """A fault and the files that have it. Of thousands a few are kept."""

    EXAMPLES = 5

    def __init__(self) -> None:
        self.count, self.hint = 0, ""
        self.examples: List[str] = []

    def add(self, example: str, hint: str) -> None:
        self.count += 1
        self.hint = self.hint or hint
        if len(self.examples) < self.EXAMPLES:
            self.examples.append(example)


class SharedScene(NamedTuple):
    """An image of validation, one of training that shows the same, and what tells so."""
    image: str
    other: str
    why: str


class Split:
    """One data set of the config, what was found in it, and how many pixels each value has."""

    def __init__(self, name: str):
        self.name = name
        self.dataset: Any = None                            # PaddleSeg's; None where it can't be built
        self.findings: Dict[str, Finding] = {}
        self.pixels: Counter[int] = Counter()               # of each value
        self.beside: Counter[int] = Counter()               # of all labels that have it
        self.no_class_in: List[str] = []                    # labels with values that are no class
        self.largest: Dict[str, int] = {}                   # number in each image of 16 bits
        self.looked_at = "not looked at"
        self.digests: Dict[bytes, str] = {}                 # of the images' pixels
        self.looks: Dict[str, bytes] = {}                   # of each image its thumbnail (likeness.py)
        self.shared: List[SharedScene] = []                 # with the set to train on
        self.passed_over: List[str] = []                    # pictures where images are looked for, with other endings

    def add(self, kind: str, example: str, hint: str = "") -> None:
        self.findings.setdefault(kind, Finding()).add(example, hint)

    def lines(self) -> List[str]:
        """The report."""
        lines = [f"{self.name}: {self.looked_at}, {'found:' if self.findings else 'nothing wrong'}"]
        lines += listing(self.findings)
        if self.passed_over:
            lines.append(f"  {len(self.passed_over)} pictures are passed over, as the data set takes other endings; "
                         f"the first: {self.passed_over[0]}")
        return lines


def listing(findings: Dict[str, Finding]) -> List[str]:
    """Each kind with its count, its examples and its hint."""
    lines = []
    for kind, finding in findings.items():
        lines.append(f"  {finding.count} x {kind}")
        lines += [f"      {example}" for example in finding.examples]
        if finding.count > len(finding.examples):
            lines.append(f"      and {finding.count - len(finding.examples)} more")
        if finding.hint:
            lines.append(f"      hint: {finding.hint}")
    return lines


def kinds(splits: List[Split]) -> str:
    """How many kinds of fault the splits have, and each once, with the splits that have it."""
    where: Dict[str, List[str]] = {}
    for split in splits:
        for kind in split.findings:
            where.setdefault(kind, []).append(split.name)
    told = ", ".join(f"{kind} ({' and '.join(names)})" for kind, names in where.items())
    return f"{len(where)} kind{'s' * (len(where) > 1)} of fault: {told}"
