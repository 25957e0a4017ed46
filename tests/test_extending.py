"""docs/extending.md does what it says: its code is added to a copy of the project, which learns and scores by it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import merged
from safetensors.numpy import load_file
from sklearn.decomposition import PCA

from asd.cache import open_cache
from asd.code_digest import code_digest
from asd.features import open_features
from asd.settings import DETECTORS, NETWORKS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
TINY = {
    "dataset": {"demo": {"sections": 2, "train_source": 6, "train_target": 2, "test": 2, "seconds": 1.0}},
    "machines": ["fan"],
    "logmel": {"mels": 32},
}


def extended(folder: Path) -> Path:
    """A copy of the project with the code of the page in the places that the page names."""
    for name in ("src/asd", "workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    blocks = re.findall(r"```python\n# (\S+) \(([^\n]*)\)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    for path, place, code in blocks:
        file = folder / path
        where, _, name = place.rpartition(" the class ")
        if not where:
            assert place == "new"
            assert not file.exists()
            file.write_text(code)
            continue
        text = file.read_text()
        (begin,) = [one.start() for one in re.finditer(rf"^class {name}\(", text, re.MULTILINE)]
        if where == "before":
            file.write_text(f"{text[:begin]}{code}\n\n{text[begin:]}")
        else:
            assert where == "at the end of"
            end = begin + re.search(r"\n\n\n", text[begin:]).start() + 1
            file.write_text(text[:end] + code + text[end:])
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return extended(tmp_path_factory.mktemp("project"))


def run(project: Path, *arguments: str) -> str:
    """The output of a command with the code of the copy."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(project / "src")},
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("script", "module", "names", "own"),
    [
        ("fit", "sections", {*DETECTORS, "subspace"}, "knn"),
        ("score", "sections", {*DETECTORS, "subspace"}, "knn"),
        ("train", "kinds", {*NETWORKS, "bottleneck"}, "waveform"),
        ("features", "kinds", {*NETWORKS, "bottleneck"}, "efficientnet"),
    ],
)
def test_what_is_new_makes_nothing_of_the_others_again(project, script, module, names, own):
    def digest(root: Path, unused: set) -> str:
        return code_digest(root / f"workflow/scripts/{script}.py", root / "src/asd", frozenset(unused), {module: names})

    assert digest(ROOT, names - {own}) == digest(project, names - {own})
    assert digest(ROOT, set()) != digest(project, set())


def snakemake(project: Path, *targets: str, overlay: dict) -> str:
    (project / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    return run(project, "-m", "snakemake", "--cores", "2", "--configfile", "overlay.yaml", "--quiet", "--", *targets)


@pytest.fixture(scope="module")
def overlay(project) -> dict:
    """The configuration of the page, with which the workflow has run on a tiny corpus."""
    (configuration,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    overlay = merged(yaml.safe_load(configuration), TINY)
    detectors = [f"results/detectors/{model}/fan.zip" for model in ("subspace", "bottleneck")]
    snakemake(project, *detectors, overlay=overlay)
    return overlay


def test_the_scores_of_the_detector_are_the_residuals_of_a_pca(project, overlay):
    share = overlay["models"]["subspace"]["subspace"]["share"]
    scores = pd.read_csv(project / "results/scores/subspace/fan.csv", dtype={"section": str})
    with open_features(project / "results/features/ranked/fan.h5") as features:
        rows, clips = features.rows(0, len(features.clips)), features.clips
    assert list(scores["file"]) == list(clips["file"])
    for section in ("00", "01"):
        own = (clips["section"] == section).to_numpy()
        training, test = own & (clips["split"] == "train").to_numpy(), own & (clips["split"] == "test").to_numpy()
        pca = PCA(share, svd_solver="full").fit(rows[training].astype(float))
        assert 1 < pca.n_components_ < training.sum() - 1
        expected = np.linalg.norm(rows[test] - pca.inverse_transform(pca.transform(rows[test])), axis=1)
        np.testing.assert_allclose(scores["score"][test], expected, rtol=1e-5)


def test_the_network_learns_the_subspace_of_a_pca(project, overlay):
    values = overlay["networks"]["bottleneck"]["bottleneck"]["values"]
    scores = pd.read_csv(project / "results/scores/bottleneck/fan.csv", dtype={"section": str})
    (cache,) = project.glob("data/*/logmel-*/fan.h5")
    with open_cache(cache) as opened:
        spectra = opened.read_logmel(np.arange(len(opened.clips))).mean(2, dtype=float)
        clips = opened.clips
    training = (clips["split"] == "train").to_numpy()
    pca = PCA(values).fit(spectra[training])
    expected = ((spectra - pca.inverse_transform(pca.transform(spectra))) ** 2).mean(1)
    assert list(scores["file"]) == list(clips["file"])
    np.testing.assert_allclose(scores["score"], expected, rtol=1e-3)
    curve = pd.read_csv(project / "results/networks/bottleneck/fan.csv")
    assert curve["loss"].iloc[-1] == pytest.approx(expected[training].mean(), rel=1e-3)
    assert curve["loss"].iloc[0] > 10 * curve["loss"].iloc[-1]
    tensors = load_file(project / "results/networks/bottleneck/fan.safetensors")
    centred = spectra - tensors["mean"]
    residual = centred - centred @ tensors["encode.weight"].T @ tensors["encode.weight"]
    np.testing.assert_allclose(scores["score"], (residual**2).mean(1), rtol=1e-3)


@pytest.mark.parametrize("model", ["subspace", "bottleneck"])
def test_the_packed_detector_scores_as_the_workflow(project, overlay, model):
    scores = pd.read_csv(project / f"results/scores/{model}/fan.csv", dtype={"section": str})
    test = scores[(scores["section"] == "01") & (scores["split"] == "test")]
    highest = test.loc[test["score"].idxmax()]
    (sound,) = project.rglob(Path(highest["file"]).name)
    asked = "from asd.cli import main; main()", "score", "--detector", f"results/detectors/{model}/fan.zip"
    said = run(project, "-c", *asked, "--section", "01", str(sound))
    assert f"{highest['score']:.4g}" in said
