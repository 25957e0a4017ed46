# inputs:  everything that was made of every model and machine, and the configuration
# outputs: results/submission/<label>_task2_<k>/ (scores, decisions, description) for every model and the ensemble, and
#          <label>_task2.zip beside them, packed once the checker found nothing wrong; its verdict under results/checks/.
#          The folder is declared as a whole, since the sections are only known from the recordings.

RUN_GAUSSIANS = [name for name in settings.run_models if settings.models[name].detector == "gaussian"]


rule submission:
    """Write, check and pack the four systems of the paper as the challenge takes them."""
    input:
        scores=ALL_SCORES,
        ensemble=rules.ensemble.output.scores,
        selection=rules.ensemble.output.selection,
        metrics=rules.tables.output.metrics,
        manifests=expand(rules.download.output.manifest, machine=settings.machines),
        caches=sorted({cache_path(network, machine) for network in RUN_NETWORKS for machine in settings.machines}),
        networks=network_paths(RUN_NETWORKS),
        mvg=expand(MVG, model=RUN_GAUSSIANS, machine=settings.machines),
    output:
        folder=directory(f"{RESULTS}/submission"),
        verdict=f"{RESULTS}/checks/submission.json",
    log:
        f"{RESULTS}/logs/submission.log",
    benchmark:
        f"{RESULTS}/benchmarks/submission.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=f"{SCRIPTS}/submission.py",
        checker=f"{SCRIPTS}/check_submission.py",
        code=code("submission") + code("check_submission"),
        package=f"{settings.submission.label}_task2.zip",
        configuration=argument(
            settings.model_dump_json(include={"machines", "networks", "models", "run_models", "submission"})
        ),
    shell:
        "alone {log:q}; (python {params.script}"
        " --scores {input.scores:q} {input.ensemble:q}"
        " --manifests {input.manifests:q}"
        " --caches {input.caches:q}"
        " --networks {input.networks:q}"
        " --mvg {input.mvg:q}"
        " --selection {input.selection:q}"
        " --metrics {input.metrics:q}"
        " --configuration {params.configuration:q}"
        " --out-dir {output.folder:q}"
        " && python {params.checker}"
        " --submission {output.folder:q}"
        " --manifests {input.manifests:q}"
        " --verdict {output.verdict:q}"
        " --package {output.folder:q}/{params.package:q})"
        " >{log:q} 2>&1"
