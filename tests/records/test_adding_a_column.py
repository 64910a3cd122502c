"""The worked example of docs/decisions/0015-adding-a-column.md, applied and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "decisions" / "0015-adding-a-column.md"
SETTINGS = ("backend=scripted", "limit=2", "frames=2", "task.videos=6", "task.height=32")
READ = """
import sys
from pathlib import Path
from probes import load
from probes.records import schema
from test_records_docs import markdown
run = Path(sys.argv[1])
print(*sorted(set(load(run)["frame_as"])))
old = schema.read(run / "records.parquet", schema.Record).drop_columns(["frame_as"])
print(*set(schema.conform(old, schema.Record, "records.parquet")["frame_as"].to_pylist()), "|")
print([line for line in markdown(schema.Record).splitlines() if "frame_as" in line])
"""


def test_the_diff_is_all_that_a_new_column_takes(tmp_path: Path) -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    changed = re.findall(r"^\+\+\+ b/(.*)$", diff, re.M)
    assert changed == ["probes/engine/answering.py", "probes/records/row_types.py"]
    for name in ("probes", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    paths = f"{tmp_path}{os.pathsep}{Path(__file__).parent}"
    place = os.environ | {"PYTHONPATH": paths, "PROBES_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "probes", "run", *SETTINGS, "hydra.run.dir=run"]
    done = subprocess.run(words, cwd=tmp_path, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-c", READ, "run"]
    done = subprocess.run(words, cwd=tmp_path, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    values, older, documented = done.stdout.splitlines()
    assert values == "video"
    assert older == " |"
    assert "how the member receives a frame" in documented
