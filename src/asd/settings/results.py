"""What is made of the scores, and sweeps over settings."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from asd.settings.block import Model, Name, Source


class Sweep(Model):
    """Several values at once: every combination becomes entries of `networks` and `models` (see `asd.expansion`)."""

    models: list[Name] = []
    """The entries of `models` to sweep; empty: those of `run_models`."""
    seeds: list[NonNegativeInt] = []
    """Seeds of the networks."""
    values: dict[str, list[Any]] = {}
    """Dotted key of the configuration -> its values. The key belongs to a network, a model, or a block that they
    share."""


class Variant(Model):
    """The values and the seed that an entry of `models` has in a sweep."""

    model: Name
    """The entry that was swept."""
    title: str
    """The row of the sweep's tables: the title with the values, without the seed."""
    values: dict[str, Any] = {}
    """The value of each swept key that affects the model."""
    seed: int | None = None
    """The seed of its network, if seeds were swept."""


class Leaderboard(Model):
    """What the leaderboard has besides the models that run (see `asd.results.leaderboard`)."""

    submissions: dict[str, Source] = {}
    """Name of another system -> the folder of its score files, in the form of the challenge."""
    chosen_by_labels: dict[str, str] = {}
    """An entry of `models`, or name of a submission -> what of it was chosen by labels of this corpus. It then stands
    outside of the ranking."""


class Ensemble(Model):
    """The choice of a model for each machine."""

    fallback: str = ""
    """The model of a machine without labelled development clips; empty: the first fusion of `run_models`, or if there
    is none, its first model."""


class Metrics(Model):
    """How figures are computed from scores."""

    max_fpr: float = Field(0.1, gt=0, lt=1)
    """Upper limit of the pAUC's false positive rate."""
    pauc_anomalies: Literal["both", "own"] = "both"
    """The pAUC of a domain compares its normal clips with the anomalies of both domains (as the AUC), or of its own."""
    resamples: int = Field(1000, ge=0)
    """Bootstrap resamples per interval; 0: no intervals."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals."""
    splits: int = Field(200, ge=0)
    """Random halvings of the clips for the ensemble's cross-fitted figures; 0: none."""
    seed: int = Field(0, ge=0)
    """Seed of the resamples and halvings."""


class Author(Model):
    """An author of a challenge submission."""

    lastname: str
    firstname: str
    email: str
    institution: str
    department: str = ""
    location: str = ""
    corresponding: bool = False
    """Whether this is the corresponding author; exactly one author is."""


class Submission(Model):
    """The entries of a challenge submission that cannot be measured."""

    label: str = Field("Lastname_Institute", pattern=r"^[A-Za-z0-9-]+_[A-Za-z0-9-]+$")
    """Last name and institute (abbreviated) of the corresponding author; a system is <label>_task2_<number>."""
    authors: list[Author] = [
        Author(
            lastname="Lastname",
            firstname="Firstname",
            email="name@example.org",
            institution="Institute",
            corresponding=True,
        )
    ]
    """The authors, in the order of the list of authors."""
    source_code: str = ""
    """Address of the source code; may be empty."""
    models: Annotated[list[Name], Field(max_length=4)] = []
    """The systems, at most four in the challenge: models of `run_models`, and `ensemble`. Empty: the models of the
    paper's tables, and the ensemble."""

    @model_validator(mode="after")
    def _corresponding(self) -> "Submission":
        if sum(author.corresponding for author in self.authors) != 1:
            raise ValueError("authors: exactly one with corresponding: true is needed")
        return self


class Compute(Model):
    """Device and threads of the networks. The same settings on the same kind of processor give the same bytes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = "auto"
    """auto (CUDA or else Apple's MPS, if available), cpu, cuda, cuda:N or mps. Nobody has tried mps yet."""
    threads: int = Field(2, ge=1)
    """Threads per job. Fixed, since the last bits of a sum depend on it."""
    deterministic: bool = False
    """On CUDA: use only kernels that give the same bytes each time (slower)."""
