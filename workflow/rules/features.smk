# inputs:  the machine's log-mel cache, and a trained network or none
# outputs: results/features/<network or spectrum>/<machine>.h5


rule features:
    """Compute the features of a network's stages, pooled: one row per clip or per window."""
    input:
        cache=cache_of,
        network=lambda wildcards: network_path(wildcards.network, wildcards.machine),
    output:
        features=FEATURES,
    log:
        f"{RESULTS}/logs/features/{{network}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{network}}/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: NETWORK_THREADS
    resources:
        gpu=NETWORK_GPUS,
        mem_mb=lambda wildcards, input, attempt: attempt * scoring_needs(wildcards.network, input.cache)["mem_mb"],
        runtime=lambda wildcards, input, attempt: attempt * scoring_needs(wildcards.network, input.cache)["runtime"],
    params:
        script=f"{SCRIPTS}/features.py",
        code=code_of_kind("features"),
        settings=lambda wildcards: flags(settings.networks[wildcards.network].windows),
        compute=COMPUTE,
    shell:
        command(
            "--cache {input.cache:q}",
            "--network {input.network:q}",
            "{params.settings}",
            "{params.compute}",
            "--out {output.features:q}",
        )


rule spectra:
    """Compute features without a network: the mel spectrogram of each clip, pooled over time."""
    input:
        cache=CACHE.replace("{logmel}", settings.logmel.file),
    output:
        features=SPECTRA,
    log:
        f"{RESULTS}/logs/spectra/{{spectrum}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/spectra/{{spectrum}}/{{machine}}.tsv"
    wildcard_constraints:
        spectrum="|".join(settings.spectra) or "(?!)",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/spectra.py",
        code=code("spectra", unused={"network"}),
        settings=lambda wildcards: flags(settings.spectra[wildcards.spectrum]),
    shell:
        command("--cache {input.cache:q}", "{params.settings}", "--out {output.features:q}")
