"""The provenance of a run: checksums, seeds and versions, and a configuration that makes the same run again."""

import hashlib
import platform
import subprocess

import torch
from conftest import make_corpus

from asd.corpus import scan, write_manifest
from asd.provenance import commit, describe
from asd.settings import load

CONFIGURATION = {
    "machines": ["fan"],
    "train": {"seed": 7},
    "networks": {"global": {}, "other": {"seed": 8}},
    "models": {"global": {"title": "Global", "network": "global", "detector": "gaussian"}},
    "run_models": ["global"],
}


def document(folder):
    manifest = folder / "fan/manifest.csv"
    if not manifest.exists():
        make_corpus(folder, train=2, test=1)
        write_manifest(manifest, scan(folder, "fan"))
    settings = load(CONFIGURATION).model_dump(mode="json")
    return describe(settings, {"mvg": "1f"}, folder, [manifest], [manifest])


def test_it_says_what_made_the_tables(tmp_path):
    said = document(tmp_path)
    manifest = tmp_path / "fan/manifest.csv"
    assert said["files"] == {str(manifest): hashlib.sha256(manifest.read_bytes()).hexdigest()}
    assert said["recordings"]["fan"]["clips"] == 2 * (2 + 4)
    assert said["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert said["versions"]["python"] == platform.python_version()
    assert said["code"] == {"commit": "", "stages": {"mvg": "1f"}}
    assert {key: said["seeds"][key] for key in ("networks.global.seed", "networks.other.seed")} == {
        "networks.global.seed": 7,
        "networks.other.seed": 8,
    }
    assert load(said["configuration"]) == load(CONFIGURATION)


def test_another_sample_of_a_recording_is_another_provenance(tmp_path):
    before = document(tmp_path)
    assert document(tmp_path) == before
    clip = next((tmp_path / "fan/test").glob("*.wav"))
    sound = bytearray(clip.read_bytes())
    sound[-1] ^= 1
    clip.write_bytes(sound)
    after = document(tmp_path)
    assert after["recordings"]["fan"]["recordings"] != before["recordings"]["fan"]["recordings"]
    assert after["recordings"]["fan"]["manifest"] == before["recordings"]["fan"]["manifest"]


def test_the_commit_says_whether_files_were_changed(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", *words], check=True)

    git("init", "--quiet")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "--message", "a")
    clean = commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == clean + "+"
