"""Says what a built wheel lacks: `python .ci/check_wheel.py dist/colaworld-*.whl`.

It has to hold every file that git knows of in our packages (weights, goals, settings, pages, type
hints), but for the measurements that ran once, and to be smaller than 100 MB.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cola_env", "cola_train", "planners", "benchmarks")
LEFT_OUT = "benchmarks/measurements/"
LIMIT_MB = 100

wheel = Path(sys.argv[1])
listed = subprocess.check_output(["git", "ls-files", *PACKAGES], cwd=ROOT, text=True).split("\n")
files = {name for name in listed if name and not name.startswith(LEFT_OUT)}
held = set(zipfile.ZipFile(wheel).namelist())
wanted = files | {f"{package}/py.typed" for package in PACKAGES}
megabytes = wheel.stat().st_size / 1e6
if missing := sorted(wanted - held):
    sys.exit(f"{wheel.name} lacks {', '.join(missing)}.")
if extra := sorted(name for name in held - wanted if ".dist-info/" not in name):
    sys.exit(f"{wheel.name} holds what git does not know: {', '.join(extra)}.")
if megabytes > LIMIT_MB:
    sys.exit(f"{wheel.name} has {megabytes:.0f} MB; more than {LIMIT_MB} is too much.")
print(f"{wheel.name}: {len(held)} files, {megabytes:.0f} MB")
