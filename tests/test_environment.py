"""One set of versions, however the environment is made."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "timm", "librosa", "sklearn", "pandas", "matplotlib"}


def test_the_conda_environment_is_the_locked_set():
    pins = runpy.run_path(str(ROOT / "envs/conda.py"))["pins"]
    locked = pins((ROOT / "envs/requirements.txt").read_text())
    environment = yaml.safe_load((ROOT / "envs/asd.yaml").read_text())
    assert environment["dependencies"][-1] == {"pip": locked}
    assert any(pin.startswith("torch==") for pin in locked)


def test_the_lock_names_no_package_host():
    for name in ("requirements.txt", "asd.yaml"):
        assert "://" not in (ROOT / "envs" / name).read_text()


def test_every_package_is_locked_with_a_hash():
    text = (ROOT / "envs/requirements.txt").read_text()
    packages = [block for block in text.replace("\\\n", "").splitlines() if block and not block.startswith("#")]
    assert packages
    assert all("--hash=sha256:" in block for block in packages)


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "workflow/scripts").glob("*.py")))
def test_each_script_explains_itself(script):
    """`--help` says what is read and written, without the imports that only the work needs."""
    program = f"""
import runpy, sys
sys.argv = ["{script}", "--help"]
try:
    runpy.run_path({str(ROOT / "workflow/scripts" / script)!r} + ".py", run_name="__main__")
except SystemExit:
    heavy = {HEAVY} & set(sys.modules)
    sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Reads" in done.stdout
    assert "Writes" in done.stdout or "prints" in done.stdout


def test_threads_that_wait_do_not_take_the_processor():
    """What torch's OpenMP says itself of how its threads wait, when a script has loaded it."""
    program = "from asd import command\ndef main(): import torch\ncommand.run(main, '')"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    policies = re.findall(r"OMP_WAIT_POLICY\s*=\s*'?(\w+)", done.stderr)
    assert policies
    assert set(policies) == {"PASSIVE"}
