# inputs:  features and the detector fitted to them; for the detector exposure log-mel cache and network; for a fusion
#          the scores of its members
# outputs: results/scores/<model>/<machine>.csv, one row per clip; if recordings are cut into clips, one row per recording
#          there, and one per clip in results/clip_scores/<model>/<machine>.csv


rule score:
    """Score a machine's clips by the detector of their section, and decide which are anomalous."""
    input:
        features=features_of,
        fitted=fitted_of,
    output:
        scores=CLIP_SCORES,
    log:
        f"{RESULTS}/logs/score/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with(*DETECTORS),
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/score.py",
        code=code_of_detector("score"),
        decision=lambda wildcards: flags(settings.models[wildcards.model].decision),
        threads=settings.compute.threads,
    shell:
        command(
            "--features {input.features:q}",
            "--fitted {input.fitted:q}",
            "{params.decision}",
            "--threads {params.threads}",
            "--out {output.scores:q}",
        )


rule score_exposure:
    """Score a machine's clips by the classifier's uncertainty about their section, and decide which are anomalous."""
    input:
        cache=cache_of,
        network=lambda wildcards: network_path(network_of(wildcards), wildcards.machine),
    output:
        scores=CLIP_SCORES,
    log:
        f"{RESULTS}/logs/score/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with("exposure"),
    conda:
        ENVIRONMENT
    threads: NETWORK_THREADS
    resources:
        gpu=NETWORK_GPUS,
        mem_mb=lambda wildcards, input, attempt: attempt * scoring_needs(network_of(wildcards), input.cache)["mem_mb"],
        runtime=lambda wildcards, input, attempt: attempt * scoring_needs(network_of(wildcards), input.cache)["runtime"],
    params:
        script=f"{SCRIPTS}/score_exposure.py",
        code=code_of_kind("score_exposure"),
        settings=lambda wildcards: flags(settings.networks[network_of(wildcards)].windows),
        decision=lambda wildcards: flags(settings.models[wildcards.model].decision),
        compute=COMPUTE,
    shell:
        command(
            "--cache {input.cache:q}",
            "--network {input.network:q}",
            "{params.settings}",
            "{params.decision}",
            "{params.compute}",
            "--out {output.scores:q}",
        )


rule fuse:
    """Fuse the scores of a fusion's members, and decide which clips are anomalous."""
    input:
        scores=lambda wildcards: [
            CLIP_SCORES.format(model=member, machine=wildcards.machine)
            for member in settings.models[wildcards.model].members
        ],
    output:
        scores=CLIP_SCORES,
    log:
        f"{RESULTS}/logs/fuse/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fuse/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=FUSIONS,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        script=f"{SCRIPTS}/fuse.py",
        code=code("fuse"),
        fuse=lambda wildcards: settings.models[wildcards.model].fuse,
        weights=lambda wildcards: settings.models[wildcards.model].weights,
        decision=lambda wildcards: flags(settings.models[wildcards.model].decision),
    shell:
        command(
            "--scores {input.scores:q}",
            "--fuse {params.fuse}",
            "--weights {params.weights}",
            "{params.decision}",
            "--out {output.scores:q}",
        )


if CLIP_SCORES != SCORES:

    rule pool:
        """Pool the scores of the clips that were cut from a recording, and decide which recordings are anomalous."""
        input:
            scores=CLIP_SCORES,
        output:
            scores=SCORES,
        log:
            f"{RESULTS}/logs/pool/{{model}}/{{machine}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/pool/{{model}}/{{machine}}.tsv"
        wildcard_constraints:
            model="|".join(settings.models),
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=by_attempt(1000),
            runtime=by_attempt(10),
        params:
            script=f"{SCRIPTS}/pool.py",
            code=code("pool"),
            pool=settings.logmel.cut.pool,
            decision=lambda wildcards: flags(settings.models[wildcards.model].decision),
        shell:
            command("--scores {input.scores:q}", "--pool {params.pool}", "{params.decision}", "--out {output.scores:q}")
