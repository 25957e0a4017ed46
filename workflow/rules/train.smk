# inputs:  the machine's log-mel cache, with scope `all` those of all machines; pre-trained weights or, for a warm
#          start, another network of the machine
# outputs: results/networks/<network>/<machine>.safetensors (or all.safetensors), and its curve beside it
# kept:    results/checkpoints/<network>/<machine>.safetensors during training, from which an interrupted job continues.
#          It is not declared, since Snakemake deletes the declared files of a failed job


rule train:
    """Train one network on one machine, over all its sections, or on all machines."""
    input:
        cache=caches_of,
        start=start_of,
    output:
        network=NETWORK,
        curve=f"{RESULTS}/networks/{{network}}/{{machine}}.csv",
    log:
        f"{RESULTS}/logs/train/{{network}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{network}}/{{machine}}.tsv"
    wildcard_constraints:
        machine="|".join([*settings.machines, "all"]),
    conda:
        ENVIRONMENT
    threads: NETWORK_THREADS
    resources:
        gpu=NETWORK_GPUS,
        mem_mb=lambda wildcards, input, attempt: attempt * training_needs(wildcards, input)["mem_mb"],
        runtime=lambda wildcards, input, attempt: attempt * training_needs(wildcards, input)["runtime"],
    params:
        script=f"{SCRIPTS}/train.py",
        code=code_of_kind("train"),
        settings=lambda wildcards: settings.networks[wildcards.network].training.flags,
        start=lambda wildcards: "--start" if start_of(wildcards) else "",
        compute=COMPUTE,
        checkpoint=f"{RESULTS}/checkpoints/{{network}}/{{machine}}.safetensors",
    shell:
        command(
            "--cache {input.cache:q}",
            "{params.start} {input.start:q}",
            "{params.settings}",
            "{params.compute}",
            "--out {output.network:q}",
            "--curve {output.curve:q}",
            "--checkpoint {params.checkpoint:q}",
            python="exec python",
        )
