# inputs:  scores, networks and fitted detectors of every model and machine; manifests, log-mel caches, the ensemble's
#          selection and metrics.csv
# outputs: results/submission/<label>_task2_<k>/ (scores, decisions, description) for each system of submission.models,
#          and <label>_task2.zip beside them, if the checker finds nothing wrong; its verdict in results/checks/. The
#          folder is declared as a whole, since the sections are known only from the recordings

RUN_FITTED = [name for name in SCORED if settings.models[name].fitted]
SYSTEMS = [name for name in settings.submitted if name != "ensemble"]


rule submission:
    """Write, check and pack systems in the form of the challenge."""
    input:
        scores=ALL_SCORES,
        ensemble=CHOSEN_SCORES,
        selection=SELECTION,
        metrics=METRICS,
        manifests=expand(rules.download.output.manifest, machine=settings.machines),
        caches=sorted({cache_path(network, machine) for network in RUN_NETWORKS for machine in settings.machines}),
        networks=network_paths(RUN_NETWORKS),
        fitted=[fitted_path(model, machine) for model in RUN_FITTED for machine in settings.machines],
    output:
        folder=directory(f"{RESULTS}/submission"),
        verdict=f"{RESULTS}/checks/submission.json",
    log:
        f"{RESULTS}/logs/submission.log",
    benchmark:
        f"{RESULTS}/benchmarks/submission.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/submission.py",
        checker=f"{SCRIPTS}/check_submission.py",
        code=code("submission") + code("check_submission"),
        package=f"{settings.submission.label}_task2.zip",
        configuration=argument(
            settings.model_dump_json(
                include={
                    "machines",
                    "networks",
                    "spectra",
                    *DETECTORS.values(),
                    "models",
                    "run_models",
                    "paper_models",
                    "submission",
                }
            )
        ),
    shell:
        "alone {log:q}; (python {params.script}"
        " --scores {input.scores:q} {input.ensemble:q}"
        " --manifests {input.manifests:q}"
        " --caches {input.caches:q}"
        " --networks {input.networks:q}"
        " --fitted {input.fitted:q}"
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
