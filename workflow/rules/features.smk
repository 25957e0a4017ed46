# inputs:  the machine's log-mel cache and a trained network
# outputs: results/features/<network>/<machine>.h5


rule features:
    """Compute the pooled features of the nine stages, a row a clip or a window."""
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
    threads: settings.compute.threads
    resources:
        gpu=1,
        mem_mb=lambda wildcards, input, attempt: attempt * scoring_needs(wildcards.network, input.cache)["mem_mb"],
        runtime=lambda wildcards, input, attempt: attempt * scoring_needs(wildcards.network, input.cache)["runtime"],
    params:
        script=f"{SCRIPTS}/features.py",
        code=code("features"),
        settings=lambda wildcards: flags(settings.networks[wildcards.network].windows),
        compute=COMPUTE,
    shell:
        "alone {log:q}; python {params.script}"
        " --cache {input.cache:q}"
        " --network {input.network:q}"
        " {params.settings}"
        " {params.compute}"
        " --out {output.features:q}"
        " >{log:q} 2>&1"
