"""python -m paddleseg_encnet SCRIPT ARGS...: runs a script of a PaddleSeg checkout with EncNet registered.

The package's import, which comes first, repairs PaddleSeg and registers EncNet; the script then runs as if called
directly. A script in a PaddleSeg checkout gets the PaddleSeg of that checkout, as its authors mean it to.
"""

import os
import runpy
import sys

from segrun.commands import version

USAGE = "usage: python -m paddleseg_encnet SCRIPT ARGS...   for instance tools/train.py of a PaddleSeg checkout"


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(USAGE)
    if sys.argv[1] in ("-V", "--version"):
        print(version())
        return
    script = os.path.abspath(sys.argv[1])
    if not os.path.isfile(script):
        sys.exit(f"error: there is no script {sys.argv[1]}; {USAGE}")
    use_checkout_of(script)
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


def use_checkout_of(script: str) -> None:
    """Starts again with the script's own PaddleSeg if another one was imported."""
    checkout = os.path.dirname(os.path.dirname(script))
    if not os.path.isfile(os.path.join(checkout, "paddleseg", "__init__.py")):
        return
    import paddleseg
    if os.path.dirname(os.path.dirname(os.path.abspath(paddleseg.__file__))) == checkout:
        return
    path = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH")]))
    if os.environ.get("PYTHONPATH") == path:
        sys.exit(f"error: {script} needs the PaddleSeg in {checkout}, but Python imports {paddleseg.__file__}")
    os.environ["PYTHONPATH"] = path
    os.execv(sys.executable, [sys.executable, "-m", "paddleseg_encnet", *sys.argv[1:]])


if __name__ == "__main__":
    main()
