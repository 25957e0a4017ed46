# What the rules share: the validated configuration, the paths, and the digest of a script's code.
# Rules that need the Internet or take seconds have `localrule: True`: on a cluster they run beside snakemake itself.
import json
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path


def unpacked(source):
    """Unpack a workflow that is imported from a git host, since Snakemake fetches its rules only; return the folder."""
    commit = source.hosted_repo.repo.commit(source.ref)
    # The path has no commit in it, since the path of a script is a parameter of its rule.
    folder = Path(".snakemake/asd")
    stamp = folder / "COMMIT"
    if not stamp.exists() or stamp.read_text() != commit.hexsha:
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryFile() as archive:
            # A zip and not a tar: Python 3.11 unpacks tars safely from 3.11.4 on only.
            commit.repo.archive(archive, treeish=commit, format="zip")
            zipfile.ZipFile(archive).extractall(folder)
        stamp.write_text(commit.hexsha)
    return folder.resolve()


# The folder of this workflow, which need not be that of the Snakefile that imports it as a module.
RULES = workflow.current_basedir
ROOT = Path(RULES).parents[1] if hasattr(RULES, "__fspath__") else unpacked(RULES)
sys.path.insert(0, str(ROOT / "src"))

from asd.cache import HELD
from asd.errors import InputError
from asd.files import contents, digest, written
from asd.host import has_gpu, memory, processors
from asd.code_digest import code_digest
from asd.releases import TRUTHS, releases, truth_files
from asd.settings import DETECTORS, NETWORKS, flags, flags_of, load
from asd.expansion import expand as expand_sweep
from asd.own_manifest import manifest_of, recordings_of
from snakemake.exceptions import WorkflowError

try:
    settings = load(expand_sweep(config))
except InputError as error:
    raise WorkflowError(str(error)) from None

# Scripts find the package also if the environment in which they run does not have it.
PATHS = ":".join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
# One process per job. If snakemake was killed, its jobs may still run; the same job of the next snakemake waits for
# them, so that the old job cannot overwrite the new results. `alone` takes a lock named like the job's log; the kernel
# releases the lock when the last process that holds it ends. If the snakemake of a waiting job was killed too, the job
# ends.
ALONE = """alone() {
    mkdir -p .snakemake/jobs
    local name=${1//\\//-}
    if ((${#name} > 80)); then name=$(cksum <<<"$1")-${name: -60}; fi
    exec 9>>".snakemake/jobs/${name// /-}"
    if ! command -v flock >/dev/null || flock --nonblock 9; then return 0; fi
    echo "an earlier process of this job is still there; waiting until it ends: $1" >&2
    flock 9 || echo "no locks on this file system: $1" >&2
    kill -0 "$PPID" 2>/dev/null || exit 1
}; """
# Jobs use the interpreter of this process, also if it was called by its path (cron, an editor) and no environment is
# active; but if Snakemake provides the software (--sdm), they use that.
BROUGHT = getattr(getattr(workflow, "deployment_settings", None), "deployment_method", ())
FIRST = "" if BROUGHT else f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; "
# The place of the checkout is in the environment and not in the parameters, so that nothing reruns if it is moved.
PLACE = f"export WORKFLOW={shlex.quote(str(ROOT / 'workflow'))}; "
PREFIX = f"set -euo pipefail; {FIRST}{PLACE}export PYTHONPATH={shlex.quote(PATHS)}; {ALONE}"
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

SCRIPTS = '"$WORKFLOW"/scripts'
ENVIRONMENT = "../../envs/asd.yaml"
RESULTS = settings.results_dir
DATA = f"{settings.data_dir}/{settings.dataset.name}"
WEIGHTS = f"{settings.data_dir}/weights/{{backbone}}.safetensors"
CACHE = f"{DATA}/logmel-{{logmel}}/{{machine}}.h5"
# The result of the check of a folder of recordings, before anything is computed from them.
CHECKED = f"{DATA}/check/summary.csv"
NETWORK = f"{RESULTS}/networks/{{network}}/{{machine}}.safetensors"
FEATURES = f"{RESULTS}/features/{{network}}/{{machine}}.h5"
SPECTRA = f"{RESULTS}/features/{{spectrum}}/{{machine}}.h5"
FITTED = f"{RESULTS}/fitted/{{model}}/{{machine}}.h5"
SCORES = f"{RESULTS}/scores/{{model}}/{{machine}}.csv"
# The scores of clips: if recordings are cut into clips, those in SCORES are of recordings.
CLIP_SCORES = f"{RESULTS}/clip_scores/{{model}}/{{machine}}.csv" if settings.logmel.cut.seconds else SCORES
# Files of rules that take the files of all machines. They are named by these paths and not as `rules.tables.output`:
# if an input is of that kind, Snakemake computes for each of a rule's inputs a hash of them all.
SELECTION = f"{RESULTS}/ensemble/selection.csv"
METRICS = f"{RESULTS}/tables/metrics.csv"
RANKED = f"{RESULTS}/tables/suspicious.csv"
PAGE = f"{RESULTS}/report/index.html"
COMPUTE = flags(settings.compute)
BLOCKS = [settings, *settings.networks.values()]
# What the wildcards `logmel` and `backbone` stand for.
LOGMELS = {block.logmel.file: block.logmel.computed for block in BLOCKS}
BACKBONES = {block.backbone.file: block.backbone for block in BLOCKS}
# The models that are scored: those that run, and the members of fusions.
SCORED = list(dict.fromkeys(one for name in settings.run_models for one in [*settings.models[name].members, name]))
RUN_NETWORKS = list(dict.fromkeys(settings.models[name].network for name in SCORED if settings.models[name].network))
TRAINED_NETWORKS = [name for name in RUN_NETWORKS if settings.networks[name].learns]
FUSIONS = "|".join(name for name, model in settings.models.items() if model.members) or "(?!)"
# Entries whose training is the same (they differ, for example, in the windows that are scored) share one trained
# network.
TRAINED = {network: settings.trained_as(network) for network in settings.networks}


def models_with(*detectors):
    """A pattern of the models with a detector, for wildcard constraints; it matches nothing if there are none."""
    models = settings.models.items()
    return "|".join(name for name, one in models if not one.members and one.detector in detectors) or "(?!)"


def code(script, unused=()):
    """A digest of the code that a script runs. As a parameter it reruns a rule if more than comments changed."""
    script = ROOT / f"workflow/scripts/{script}.py"
    return code_digest(script, ROOT / "src/asd", frozenset(unused), by_name={"sections": DETECTORS, "kinds": NETWORKS})


def code_of_detector(script):
    """A digest of the code that a script runs for a model; it does not depend on the detectors that others have."""
    digests = {one: code(script, unused=set(DETECTORS) - {one}) for one in DETECTORS}
    return lambda wildcards: digests[settings.models[wildcards.model].detector]


def code_of_kind(script):
    """A digest of the code that a script runs for a network; it does not depend on the kinds that others have."""
    digests = {one: code(script, unused=set(NETWORKS) - {one}) for one in NETWORKS}
    return lambda wildcards: digests[settings.networks[wildcards.get("network") or network_of(wildcards)].kind]


def command(*arguments, python="python"):
    """The shell command of a rule: its script with arguments, run by one process per job, with its output in the log."""
    return " ".join(["alone {log:q};", python, "{params.script}", *arguments, ">{log:q} 2>&1"])


def by_attempt(first):
    """Memory or time that grows with the attempt, since a job that had too little is tried again."""
    return lambda wildcards, attempt: first * attempt


def network_of(wildcards):
    return settings.models[wildcards.model].network


def features_path(model, machine):
    """The features that a model scores."""
    return SPECTRA.format(spectrum=settings.models[model].rests_on, machine=machine)


def features_of(wildcards):
    return features_path(wildcards.model, wildcards.machine)


def fitted_path(model, machine):
    """The detector of a model that was fitted to features."""
    return FITTED.format(model=model, machine=machine)


def fitted_of(wildcards):
    return fitted_path(wildcards.model, wildcards.machine)


def releases_of(wildcards):
    """A digest of what asd.releases knows about a machine of a published year."""
    dataset = settings.dataset
    return (
        digest(str(releases(dataset.kind, wildcards.machine, dataset.published.parts)))
        if settings.dataset.transfer
        else ""
    )


def truth_of(wildcards):
    """The CSV files with the labels and domains of a machine's evaluation clips."""
    folder = settings.dataset.published.ground_truth if settings.dataset.transfer else ""
    return [file for column in TRUTHS if folder for file in truth_files(Path(folder), wildcards.machine, column)]


def own_manifest(wildcards):
    """The manifest that the owner of a folder of recordings wrote, as a list; empty if there is none."""
    folder = settings.dataset.folder.path if settings.dataset.kind == "folder" else ""
    own = manifest_of(Path(folder), wildcards.machine) if folder else None
    return [own] if own else []


@cache
def recordings_at_hand(machine):
    """The manifest and the recordings of a machine in a folder; nothing for other kinds of data sets."""
    folder = settings.dataset.folder.path if settings.dataset.kind == "folder" else ""
    return recordings_of(Path(folder), machine) if folder else (None, [])


def listing_of(wildcards):
    """A digest of a machine's manifest, or else of its recordings' names, so that a new recording is noticed."""
    own, files = recordings_at_hand(wildcards.machine)
    names = own.read_bytes().hex() if own else "\n".join(map(str, files))
    return digest(names) if names else ""


def contents_of(wildcards):
    """A flag with a digest of the content of a machine's recordings, so that a replaced recording is noticed."""
    files = recordings_at_hand(wildcards.machine)[1]
    return f"--contents {contents(files, Path('.snakemake/contents.json'))}" if files else ""


def contents_at_hand(*files):
    """A digest of the content of files of the project; as a parameter, it does not depend on their place."""
    return contents([ROOT / file for file in files], Path(".snakemake/contents.json"))


def argument(text):
    """A text as an argument; a long one as the file that holds it (see asd.command.run)."""
    if len(text.encode()) < 50_000:
        return text
    path = Path(".snakemake/arguments", digest(text))
    if not path.exists():
        with written(path, lasting=False) as aside:
            aside.write_text(text, encoding="utf-8")
    return f"@{path}"


def network_path(network, machine):
    """The file of a network of a machine; with scope `all` the file of all machines."""
    everywhere = settings.networks[network].scope == "all"
    return NETWORK.format(network=TRAINED[network], machine="all" if everywhere else machine)


def cache_path(network, machine):
    """The log-mels that a network of a machine sees, or (no network) that spectra are made of."""
    block = settings.networks[network] if network else settings
    return CACHE.format(logmel=block.logmel.file, machine=machine)


def cache_of(wildcards):
    """The log-mels that the network of a rule's wildcards, or that of its model, sees."""
    network = wildcards.get("network") or network_of(wildcards)
    return cache_path(network, wildcards.machine)


def network_paths(networks):
    """The files of some networks of all machines, each once."""
    return list(dict.fromkeys(network_path(network, machine) for network in networks for machine in settings.machines))


def curves_of(wildcards):
    """The training curves of the networks of a machine."""
    return [network_path(network, wildcards.machine).replace(".safetensors", ".csv") for network in TRAINED_NETWORKS]


def sources_of(wildcards):
    """What the detector of a model is packed from: per member, the fields of asd.detector_file.Source."""
    sources = []
    for name in settings.models[wildcards.model].members or [wildcards.model]:
        model, machine = settings.models[name], wildcards.machine
        source = {"model": name, "title": model.title, "detector": model.detector}
        source["cache"] = cache_path(model.network, machine)
        source["scores"] = CLIP_SCORES.format(model=name, machine=machine)
        if model.fitted:
            source["features"] = features_path(name, machine)
            source["fitted"] = fitted_path(name, machine)
        if model.network:
            source["network"] = network_path(model.network, machine)
            source["windows"] = settings.networks[model.network].windows.model_dump()
        else:
            source["spectrum"] = settings.spectra[model.spectrum].model_dump()
        sources.append(source)
    return sources


def caches_of(wildcards):
    """The log-mel caches that a network learns from."""
    machines = settings.machines if wildcards.machine == "all" else [wildcards.machine]
    return [cache_path(wildcards.network, machine) for machine in machines]


def benchmarks_of(model):
    """The benchmark files of the jobs that train a model (training), and of those that score by it (scoring)."""
    entry = settings.models[model]
    if entry.members:
        jobs = [benchmarks_of(member) for member in entry.members]
        own = [f"{RESULTS}/benchmarks/fuse/{model}/{machine}.tsv" for machine in settings.machines]
        found = {kind: [path for one in jobs for path in one[kind]] for kind in ("training", "scoring")}
        return {
            "training": list(dict.fromkeys(found["training"])),
            "scoring": list(dict.fromkeys(found["scoring"])) + own,
        }
    block = settings.networks[entry.network] if entry.network else settings
    stages = {"score": model}
    if entry.fitted:
        stages["features" if entry.network else "spectra"] = entry.rests_on
    scoring = [f"{DATA}/benchmarks/logmel/{block.logmel.file}/{machine}.tsv" for machine in settings.machines]
    scoring += [
        f"{RESULTS}/benchmarks/{stage}/{name}/{machine}.tsv"
        for stage, name in stages.items()
        for machine in settings.machines
    ]
    networks = network_paths([entry.network, *settings.warm_starts(entry.network)]) if entry.network else []
    training = [
        path.replace(f"{RESULTS}/networks", f"{RESULTS}/benchmarks/train").replace(".safetensors", ".tsv")
        for path in networks
    ]
    if entry.fitted:
        training += [f"{RESULTS}/benchmarks/fit/{model}/{machine}.tsv" for machine in settings.machines]
    return {"training": training, "scoring": scoring}


def words(flag, values):
    """A flag with its values, for the shell; nothing if there are none."""
    return shlex.join([flag, *values]) if values else ""


def weights_file(wildcards):
    """The file from which a backbone's weights are taken, if any."""
    return BACKBONES[wildcards.backbone].path or []


def start_of(wildcards):
    """What a network starts from: another network of the machine, the pre-trained weights, or nothing."""
    network = settings.networks[wildcards.network]
    if network.warm_start:
        return network_path(network.warm_start, wildcards.machine)
    if not network.starts:
        return []
    return WEIGHTS.format(backbone=network.backbone.file)


def network_threads():
    """The cores that a network's job counts for: its threads, or more if there are more `--cores` than cores.

    The threads of all jobs are then at most twice as many as the cores: one computes while another imports or reads.
    """
    threads = settings.compute.threads
    try:
        cores = workflow.cores
    except WorkflowError:  # a cluster, where each job gets as many as it says
        return threads
    return max(threads, min(cores, math.ceil(threads * cores / processors() / 2)))


# Networks on a GPU run one at a time, those on a processor side by side. Small machines have no memory for several with
# clips of ten seconds, which take 3 GB each.
NETWORK_GPUS = int(has_gpu(settings.compute.device) or memory() < 12e9)
NETWORK_THREADS = network_threads()


# Memory and time of a network's job, estimated from the clips that it processes. Measured on a CPU (one thread, 224 mel
# bins): a process takes 0.8 GB before its first batch, and more with CUDA's libraries. Per pixel (a mel bin of a frame)
# it then takes 2.3 kB (Lite1), 3.0 kB (B1) or 5.5 kB (B4; the second attempt is enough for it) in training, and 0.4 to
# 0.5 kB without gradients. The other kinds take less; a network of the waveform 0.6 kB with one resolution, 1.2 kB with
# three, of 224 mel bins, and it does not depend on these.
LOADED = 3000  # MB
BYTES = {"train": 3000, "score": 600}  # per pixel of a batch
# Microseconds per pixel, measured on a busy CPU. A GPU is assumed to be twenty times as fast, and to be used unless
# compute.device is cpu.
MICROSECONDS = {"train": 8.0, "score": 2.5}


def shape_of(cache):
    """Clips, mel bins and frames of a log-mel cache.

    Raises:
        FileNotFoundError: it is not there yet; Snakemake then asks again before the job starts.
    """
    import h5py

    os.stat(cache)
    try:
        with h5py.File(cache, locking=False) as file:
            return file["logmel"].shape
    except (OSError, KeyError):  # damaged; the job itself reports it
        return 0, 0, 0


def needs(kind, batch, pixels, held=0):
    """Memory (MB) and time (minutes) of a first attempt.

    Args:
        kind: train or score.
        batch: pixels per batch.
        pixels: pixels of all batches.
        held: bytes of the data that stay in memory.
    """
    on_cpu = settings.compute.device == "cpu"
    activations = BYTES[kind] * batch if settings.compute.device in ("cpu", "auto") else 0
    minutes = MICROSECONDS[kind] * pixels / 60e6
    return {
        "mem_mb": round(LOADED + (held + activations) / 1e6),
        "runtime": round(60 + minutes / (settings.compute.threads if on_cpu else 20)),
    }


def training_needs(wildcards, input):
    """Memory and time of the training of a network."""
    training = settings.networks[wildcards.network].training
    shapes = [shape_of(cache) for cache in input.cache]
    clips = sum(shape[0] for shape in shapes)
    batch, epochs = training.plan(max(clips, 1))
    mels, frames = shapes[0][1], min(shape[2] for shape in shapes)
    held = sum(os.path.getsize(cache) for cache in input.cache)
    if training.own.streams:
        held = min(HELD, held)
    example, of_clip = training.own.frames or frames, training.window or frames
    return needs("train", batch * mels * example, epochs * clips * mels * of_clip, held)


def scoring_needs(network, cache):
    """Memory and time of the features or scores of every clip or window of a machine."""
    windows = settings.networks[network].windows
    clips, mels, frames = shape_of(cache)
    window = windows.window or frames
    starts = (frames - window) // min(windows.hop, windows.test_hop) + 1
    mels, window = settings.networks[network].own.cost(mels, window)
    return needs("score", mels * max(window, 1024), clips * starts * mels * window)


# A limit such as gpu=1 is meant for one machine. On a cluster it applies within a job, and Slurm assigns the GPUs.
resource_scopes:
    gpu="local",


wildcard_constraints:
    logmel="|".join(LOGMELS),
    backbone="|".join(map(re.escape, BACKBONES)),
    machine="|".join(settings.machines),
    network="|".join(settings.networks),
