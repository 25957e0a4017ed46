"""One network for all machines: a demo corpus of 2023's shape, a section a machine, one of them without attributes."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from test_workflow import TINY, changed, planned, snakemake

from asd import exposure, kinds, training, weights
from asd import network as networks
from asd.cache import Joined, open_cache, write_cache
from asd.corpus import scan, write_manifest
from asd.demo.synthesis import write_machine
from asd.errors import InputError
from asd.settings import Backbone, Demo, Equaliser, LogMel, Training, Windows, load

MACHINES = ["ToyCar", "fan", "valve"]
SHAPE = Demo(sections=1, train_source=4, train_target=1, test=1, seconds=0.5, without_attributes=["valve"])
LOGMEL = LogMel(mels=64)
ALL = Training(scope="all", epochs=1, batch=5, warmup=0)
CPU = torch.device("cpu")
LITE1 = Backbone(name="tf_efficientnet_lite1", weights="package")


@pytest.fixture(scope="module")
def caches(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scope")
    for machine in MACHINES:
        write_machine(folder, machine, SHAPE)
        write_manifest(folder / machine / "manifest.csv", scan(folder, machine))
        write_cache(folder / f"{machine}.h5", folder / machine / "manifest.csv", LOGMEL)
    return {machine: folder / f"{machine}.h5" for machine in MACHINES}


@pytest.fixture
def joined(caches):
    with ExitStack() as stack:
        yield Joined([stack.enter_context(open_cache(path)) for path in caches.values()])


def begin(joined: Joined, settings: Training) -> networks.Network:
    return training.begin((weights.fetch(LITE1), {"content": "weights", "backbone": LITE1.name}), joined, settings, "w")


def test_the_machine_without_attributes(caches):
    with open_cache(caches["valve"]) as cache:
        assert set(cache.clips["attributes"]) == {"{}"}
        assert all(file.endswith("_noAttribute.wav") for file in cache.clips["file"])
    with open_cache(caches["fan"]) as cache:
        assert "{}" not in set(cache.clips["attributes"])


def test_caches_as_one(caches, joined):
    clips = joined.clips
    assert list(dict.fromkeys(clips["machine"])) == MACHINES
    rows = [len(clips) - 1, 0, len(clips) // 2]
    logmel, waveform = joined.read_logmel(rows), joined.read_waveform(rows)
    for place, row in enumerate(rows):
        with open_cache(caches[clips["machine"][row]]) as cache:
            own = [cache.clips["file"].tolist().index(clips["file"][row])]
            np.testing.assert_array_equal(logmel[place], cache.read_logmel(own)[0])
            np.testing.assert_array_equal(waveform[place], cache.read_waveform(own)[0])


def test_clips_of_different_length_are_cut_to_the_shortest_and_that_is_said(caches, tmp_path, caplog):
    name = "fan/train/section_00_source_train_normal_0000.wav"
    (tmp_path / name).parent.mkdir(parents=True)
    soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 12000), 16000, "PCM_16")
    write_manifest(tmp_path / "manifest.csv", scan(tmp_path, "fan"))
    write_cache(tmp_path / "long.h5", tmp_path / "manifest.csv", LOGMEL)
    with open_cache(caches["valve"]) as short, open_cache(tmp_path / "long.h5") as long:
        joined = Joined([long, short])
        assert joined.read_logmel([0, 1]).shape == (2, 64, short.frames)
        np.testing.assert_array_equal(joined.read_waveform([0])[0], long.read_waveform([0])[0, :8000])
    assert "cropped to the 0.50 s of the shortest" in caplog.text
    assert "valve.h5" in caplog.text


def test_caches_of_other_settings_are_refused(caches, tmp_path):
    write_cache(tmp_path / "fan.h5", caches["fan"].parent / "fan/manifest.csv", LogMel(mels=32))
    with open_cache(caches["valve"]) as one, open_cache(tmp_path / "fan.h5") as other:
        both = [one, other]
        with pytest.raises(InputError, match=r"fan\.h5: other log-mel settings than .*valve\.h5"):
            Joined(both)


def test_classes_are_machine_and_section_and_machine_and_attribute(joined):
    description = begin(joined, ALL).description
    assert description.machine == "all"
    assert description.section_labels == ("ToyCar 00", "fan 00", "valve 00")
    of_machine = {label: label.partition(" ")[0] for label in description.attribute_labels}
    assert set(of_machine.values()) == set(MACHINES)
    assert [label for label, machine in of_machine.items() if machine == "valve"] == ["valve"]
    doubled = begin(joined, ALL.model_copy(update={"equaliser": Equaliser(probability=0.5)})).description
    assert len(doubled.section_labels) == 6
    data = training.training_set(joined, description, ALL, CPU)
    assert data.section.bincount().tolist() == [5, 5, 5]


def test_a_network_of_all_machines_doubts_a_clip_s_own_machine_and_section(joined, caches, tmp_path):
    network = begin(joined, ALL)
    data = training.training_set(joined, network.description, ALL, CPU)
    training.measure(network, data.spectrograms)
    (row,) = training.train(network, data, ALL, LOGMEL)
    assert np.isfinite([row.loss, row.section_scale, row.attribute_scale]).all()
    networks.save(tmp_path / "all.safetensors", network)
    network = kinds.load(tmp_path / "all.safetensors")
    for number, machine in enumerate(MACHINES):  # in the order of the labels
        with open_cache(caches[machine]) as cache:
            found = exposure.scores(network, cache, Windows(), CPU)
            with torch.inference_mode():
                logmel = torch.from_numpy(cache.read_logmel(range(len(cache.clips))))
                p = network.section(network.embed(network.standardise(logmel))).double().softmax(1)[:, number]
        np.testing.assert_allclose(found, torch.log((1 - p) / p).numpy(), rtol=1e-3, atol=1e-3)


def test_a_machine_that_it_was_not_trained_on(joined, caches):
    network = begin(Joined(joined.caches[:2]), ALL)
    with open_cache(caches["valve"]) as cache, pytest.raises(InputError, match="section valve 00 has test clips"):
        exposure.scores(network, cache, Windows(), CPU)


def test_settings():
    configuration = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text())
    with pytest.raises(InputError, match=r"networks\.oe\.warm_start: oe has scope all, global has machine"):
        load(changed(configuration, networks__oe__scope="all"))
    with pytest.raises(InputError, match="'all' is the name of a network of all machines"):
        load(changed(configuration, machines=["fan", "all"]))


@pytest.mark.slow
def test_the_graph_has_one_training_a_network(tmp_path):
    overlay = changed(
        TINY,
        train__scope="all",
        machines=MACHINES,
        dataset__demo__sections=1,
        dataset__demo__without_attributes=["fan"],
    )
    targets = ["results/tables/auc_total.csv", "results/provenance.json", "results/report/index.html"]
    output = snakemake(tmp_path, "--dry-run", "--", *targets, overlay=overlay)
    jobs = planned(output)
    assert jobs["train"] == 3
    assert jobs["logmel"] == jobs["score_exposure"] == 3
    assert jobs["features"] == 6
    assert jobs["fit"] == 9
    assert "results/networks/oe/all.safetensors" in output
    paper = yaml.safe_load((Path(__file__).parents[1] / "config/dcase2022.yaml").read_text())
    assert planned(snakemake(tmp_path, "--dry-run", overlay=changed(paper, train__scope="all")))["train"] == 4
