"""The short form of kill.py, and what a full disk and an unreadable or damaged file do to a job."""

import functools
import re
import subprocess

import h5py
import numpy as np
import pytest
import torch
from conftest import make_corpus
from kill import TINY, WAYS, disturb, snakemake, tables

from asd import network as networks
from asd import training, weights
from asd.cache import open_cache, write_cache
from asd.checkpoint import Checkpoint
from asd.corpus import scan, write_manifest
from asd.errors import InputError
from asd.files import written
from asd.hdf5 import LIBVER
from asd.network import Description, Network
from asd.settings import Backbone, LogMel, Training


def test_whatever_is_killed_the_same_command_ends_with_the_same_tables(undisturbed, tmp_path):
    count = disturb(undisturbed, tmp_path / "wild", kills=3, seed=5)
    assert {way for way, _ in count.kills} >= set(WAYS)
    assert count.waited
    assert count.continued


@pytest.fixture
def small(tmp_path):
    """A disk of 600 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def test_a_chain_whose_disk_is_full_says_so_and_ends_once_there_is_room(small, undisturbed, tmp_path):
    # The recordings and their log-mels are those of the undisturbed run: it is the results that do not fit.
    configuration = TINY | {"data_dir": str(undisturbed / "data")}
    command = functools.partial(snakemake, tmp_path, "--cores", "2", "--directory", small, configuration=configuration)
    resize(small, "24m")  # one network of 17 MB, and no checkpoint of 50
    assert command().wait() == 1
    said = (tmp_path / "said").read_text()
    assert (
        "results/networks/oe/fan.safetensors: cannot be written: the disk is full; free some space and run again"
        in said
    )
    assert "no checkpoint could be written" in said
    resize(small, "200m")
    assert command().wait() == 0, (tmp_path / "said").read_text()
    assert tables(small) == tables(undisturbed)


def write_network(path, begun):
    networks.save(path, begun)


def write_features(path, begun):
    with written(path) as aside, h5py.File(aside, "w", libver=LIBVER) as file:
        file["features"] = np.zeros((1000, 2096), np.float32)


def write_scores(path, begun):
    with written(path) as aside:
        aside.write_text("0.5\n" * 1_000_000)


@pytest.mark.parametrize("write", [write_network, write_features, write_scores])
def test_a_full_disk_is_named_and_nothing_half_written_stays(small, write):
    network = Network(Description("tf_efficientnet_lite1", "fan", 1, ("a", "b"), ("b", "c"), "{}"))
    (small / "before").write_text("1")
    with pytest.raises(InputError, match=r"disk/fan\.h5: cannot be written: the disk is full"):
        write(small / "fan.h5", network)
    assert [path.name for path in small.iterdir()] == ["before"]


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(small, caplog):
    one = Checkpoint(small / "fan.safetensors", {"data": "1"})
    one.save({"x": torch.zeros(100)}, {"epoch": 1})
    one.save({"x": torch.zeros(1_000_000)}, {"epoch": 2})
    assert "no checkpoint could be written" in caplog.text
    assert one.load()[1]["epoch"] == 1


@pytest.mark.parametrize("kind", ["a folder", "a dead link"])
def test_a_recording_that_cannot_be_read_is_named(tmp_path, kind):
    make_corpus(tmp_path)
    write_manifest(tmp_path / "manifest.csv", scan(tmp_path, "fan"))
    clip = sorted(tmp_path.glob("fan/test/*.wav"))[3]
    clip.unlink()
    clip.mkdir() if kind == "a folder" else clip.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=re.escape(clip.name)):
        write_cache(tmp_path / "fan.h5", tmp_path / "manifest.csv", LogMel(mels=64))
    assert not (tmp_path / "fan.h5").exists()


def test_a_flipped_byte_in_the_cache_is_not_trained_on(cache_path, tmp_path):
    with h5py.File(cache_path) as file:
        chunk = file["logmel"].id.get_chunk_info(0)  # of a training clip
    content = bytearray(cache_path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    damaged = tmp_path / "fan.h5"
    damaged.write_bytes(content)
    settings = Training()
    with open_cache(damaged) as cache:
        start = weights.fetch(Backbone(weights="none")), {"content": "weights", "backbone": "tf_efficientnet_lite1"}
        network = training.begin(start, cache, settings, damaged)
        with pytest.raises(InputError, match=r"fan\.h5: damaged"):
            training.training_set(cache, network.description, settings, torch.device("cpu"))
