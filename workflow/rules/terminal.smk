# What a run says on the terminal. Snakemake's own output has a dozen lines for each job: it stays in the run's log in
# .snakemake/log, which Snakemake names at the end, and also on the terminal in a dry run and with --verbose,
# --printshellcmds or --quiet.
import logging
import threading
import time
from asd import terminal

# The messages that Snakemake writes in every run and that are no event of a job.
USUAL = re.compile(
    r"(Building DAG|Using shell|Conda environments: ignored|Singularity containers: ignored|Group jobs: inactive"
    r"|Select jobs to execute)"
)
EVENTS = {"run_info", "workflow_started", "job_info", "group_info", "job_started", "job_finished", "progress"}
EVENTS |= {"resources_info", "shellcmd"}


def is_usual(record):
    """Whether a message of Snakemake is written into the log only."""
    event, message = str(getattr(record, "event", None)), record.getMessage()
    if record.levelno > logging.INFO:
        return event == "job_error" or (event == "error" and "CalledProcessError" in message)
    return event in EVENTS or USUAL.match(message) is not None


class Terminal(logging.Handler):
    """Writes a line per finished stage and machine and, if nothing was written for a while, what the run waits for."""

    PAUSE = 15  # seconds

    def __init__(self, stream):
        super().__init__()
        self.stream, self.live = stream, stream.isatty()
        self.run, self.said, self.closed = None, time.monotonic(), threading.Event()

    def emit(self, record):
        event, now = str(getattr(record, "event", None)), time.monotonic()
        if event == "run_info":
            jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.shellcmd]  # `all` only names files
            self.run = terminal.Progress({job.jobid: self.job(job) for job in jobs}, now)
            self.say(f"{len(jobs)} jobs to run")
            threading.Thread(target=self.watch, daemon=True).start()
        elif self.run and event == "job_started":
            self.run.begin(record.jobs, now)
        elif self.run and event == "job_finished":
            self.say(self.run.end(record.job_id, now))
        elif self.run and event == "job_error":
            self.say(self.run.fail(record.jobid))
        elif self.live and not is_usual(record):
            self.say("", clear=True)  # Snakemake writes on this line

    @staticmethod
    def job(job):
        words = job.wildcards_dict
        of = next((words[key] for key in ("model", "network", "spectrum") if key in words), "")
        log = Path(str(job.log[0])) if job.log else None
        return terminal.Job(job.rule.name, words.get("machine", ""), of, log, terminal.earlier_seconds(job.benchmark))

    def say(self, text, clear=False):
        if text or clear:
            with self.lock:
                self.stream.write(("\r\x1b[K" if self.live else "") + (f"{text}\n" if text else ""))
                self.stream.flush()
            self.said = time.monotonic()

    def watch(self):
        """Say what the run waits for: on a terminal in the last line, otherwise after a pause without other lines."""
        while not self.closed.wait(1):
            now = time.monotonic()
            text = self.run.waiting(now)
            if self.live and text:
                with self.lock:
                    self.stream.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
                    self.stream.flush()
            elif now - self.said > self.PAUSE:
                self.say(text)

    def close(self):
        if not self.closed.is_set():
            self.closed.set()
            self.say("", clear=self.live)
        super().close()


def finished():
    """The message at the end of a run: what was asked for, as its log says it, and where the results are."""
    asked, ran = ({job.rule.name for job in jobs} for jobs in (workflow.dag.targetjobs, workflow.dag.finished_jobs))
    if "all" in asked:
        asked |= {"suspicious"} if SUSPICIOUS else set()
        asked |= {"sweep"} if settings.variants else {"tables"}
        asked.add("report")
    texts = {"suspicious": "logs/suspicious.log", "tables": "tables/summary.md", "sweep": "tables/sweep.md"}
    texts |= {"submission": "logs/submission.log", "leaderboard": "logs/leaderboard.log"}
    paths = [Path(RESULTS, path) for name, path in texts.items() if name in asked]
    said = [path.read_text(encoding="utf-8") for path in paths if path.exists()]
    if "check_corpus" in ran and "logmel" not in ran:
        # Snakemake does not compare the jobs after an `ancient` input if it has to make this input.
        said.append("The recordings were checked again. If another setting has changed too, run snakemake once more.\n")
    places = {
        "suspicious": "tables/suspicious.csv",
        "tables": "tables/summary.md",
        "sweep": "tables/sweep.md",
        "report": "report/index.html",
        "single": "report/single.html",
        "figures": "figures/",
        "detector": "detectors/",
        "chosen_detector": "detectors/",
        "submission": "submission/",
        "leaderboard": "leaderboard/index.html",
    }
    made = [f"{RESULTS}/{place}" for name, place in places.items() if name in asked and Path(RESULTS, place).exists()]
    return "\n".join(["", *said, *made, f"all results: {RESULTS}/   data: {DATA}/"])


def calm():
    """Replace Snakemake's output on the terminal, if it is the default one of a run of this workflow alone."""
    settings = workflow.output_settings
    plain = settings and not (settings.dryrun or settings.verbose or settings.printshellcmds or settings.quiet)
    if not (plain and workflow.is_main_process and workflow.modifier.is_main_snakefile()):
        return
    logger = logging.getLogger("snakemake.logging")
    for handler in [one for one in logger.handlers if one.name == "DefaultStreamHandler"]:
        handler.addFilter(lambda record: not is_usual(record))
        logger.handlers.insert(0, Terminal(handler.stream))


calm()
