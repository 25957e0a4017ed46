# What the rules share: the validated configuration, the paths, and the digest of a script's code.
import os
import shlex
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from asd.errors import InputError
from asd.files import digest
from asd.provenance import code_digest
from asd.published import TRUTHS, releases, truth_files
from asd.settings import canonical, flags, load
from asd.tree import manifest_of
from snakemake.exceptions import WorkflowError

try:
    settings = load(config)
except InputError as error:
    raise WorkflowError(str(error)) from None

# Scripts find the package wherever they run, in an environment without it too.
PATHS = ":".join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
# One process a job: what goes on after its snakemake was killed is waited for, so that it cannot write over what comes
# after it. `alone` takes a lock named like the job's log, which the kernel drops with the last process that holds it.
ALONE = """alone() {
    mkdir -p .snakemake/jobs
    exec 9>>".snakemake/jobs/${1//\\//-}"
    if ! command -v flock >/dev/null || flock --nonblock 9; then return 0; fi
    echo "an earlier process of this job is still there; waiting until it ends: $1" >&2
    flock 9 || echo "no locks on this file system: $1" >&2
}; """
PREFIX = f"set -euo pipefail; export PYTHONPATH={shlex.quote(PATHS)}; {ALONE}"
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

SCRIPTS = os.path.relpath(ROOT / "workflow/scripts")
ENVIRONMENT = "../../envs/asd.yaml"
RESULTS = settings.results_dir
DATA = f"{settings.data_dir}/{settings.dataset.name}"
WEIGHTS = f"{settings.data_dir}/weights/{settings.backbone.file}.safetensors"
CACHE = f"{DATA}/logmel-{digest(canonical(settings.logmel))}/{{machine}}.h5"
# What a folder of one's own recordings must pass before anything is computed from it.
CHECKED = f"{DATA}/check/summary.csv"
NETWORK = f"{RESULTS}/networks/{{network}}/{{machine}}.safetensors"
FEATURES = f"{RESULTS}/features/{{network}}/{{machine}}.h5"
MVG = f"{RESULTS}/mvg/{{model}}/{{machine}}.h5"
SCORES = f"{RESULTS}/scores/{{model}}/{{machine}}.csv"
COMPUTE = flags(settings.compute)


def models_with(detector):
    """A pattern of the models with a detector, for wildcard constraints; one that matches nothing where there are none."""
    return "|".join(name for name, model in settings.models.items() if model.detector == detector) or "(?!)"


def code(script, unused=()):
    """The digest of what a script runs: as a param, an edit reruns the rule and a new comment does not."""
    return code_digest(ROOT / f"workflow/scripts/{script}.py", ROOT / "src/asd", frozenset(unused))


def network_of(wildcards):
    return settings.models[wildcards.model].network


def releases_of(wildcards):
    """What the table of the published years says of a machine, as a text."""
    dataset = settings.dataset
    return (
        digest(str(releases(dataset.kind, wildcards.machine, dataset.published.parts)))
        if settings.dataset.transfer
        else ""
    )


def truth_of(wildcards):
    """The csv files with the labels and domains of a machine's evaluation clips."""
    folder = settings.dataset.published.ground_truth if settings.dataset.transfer else ""
    return [file for column in TRUTHS if folder for file in truth_files(Path(folder), wildcards.machine, column)]


def own_manifest(wildcards):
    """The manifest that the owner of a tree of recordings wrote."""
    folder = settings.dataset.folder.path if settings.dataset.kind == "folder" else ""
    own = manifest_of(Path(folder), wildcards.machine) if folder else None
    return [own] if own else []


def listing_of(wildcards):
    """A digest of the names and sizes of a machine's recordings in a folder, so that a new one is noticed."""
    home = Path(settings.dataset.folder.path, wildcards.machine)
    if settings.dataset.kind != "folder" or not home.is_dir():
        return ""
    return digest(str(sorted((str(one), one.stat().st_size) for one in home.rglob("*") if one.is_file())))


def network_path(network, machine):
    """The file of a network of a machine, which with scope `all` is that of all machines."""
    return NETWORK.format(network=network, machine="all" if settings.networks[network].scope == "all" else machine)


def network_paths(networks):
    """The files of some networks of all machines, each once."""
    return list(dict.fromkeys(network_path(network, machine) for network in networks for machine in settings.machines))


def curves_of(wildcards):
    """The training curves of the networks of a machine."""
    networks = dict.fromkeys(settings.models[name].network for name in settings.run_models)
    return [network_path(network, wildcards.machine).replace(".safetensors", ".csv") for network in networks]


def caches_of(wildcards):
    """The log-mel caches that a network learns from."""
    return expand(CACHE, machine=settings.machines if wildcards.machine == "all" else wildcards.machine)


def start_of(wildcards):
    """What a network starts from: another network of the machine, or the pre-trained weights."""
    start = settings.networks[wildcards.network].warm_start
    return NETWORK.format(network=start, machine=wildcards.machine) if start else WEIGHTS


def finished():
    """What to say at the end of a run: the table, where there is one, and where everything is."""
    said = Path(RESULTS, "logs/tables.log")
    places = {
        "tables": "tables/summary.md",
        "report": "report/index.html",
        "report in one file": "report/single.html",
        "figures": "figures/",
        "detectors": "detectors/",
    }
    made = [f"{name}: {RESULTS}/{place}" for name, place in places.items() if Path(RESULTS, place).exists()]
    table = said.read_text() if said.exists() else ""
    return "\n".join(["", table, *made, f"all results: {RESULTS}/   data: {DATA}/"])


# A limit such as gpu=1 is one machine's: on a cluster it holds within a job, and the nodes share out their own.
resource_scopes:
    gpu="local",


# On a cluster, where snakemake itself runs: what needs the network, and what takes seconds.
localrules:
    all,
    download,
    weights,
    ensemble,
    tables,
    suspicious,
    chosen_detector,
    compare_paper,
    report,
    single,
    submission,
    provenance,


wildcard_constraints:
    machine="|".join(settings.machines),
    network="|".join(settings.networks),
