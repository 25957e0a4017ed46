# inputs:  the machine's log-mel cache; pre-trained weights or, for a warm start, another network of the machine
# outputs: results/networks/<network>/<machine>.safetensors, and its curve beside it


def start_of(wildcards):
    """What a network starts from: another network of the machine, or the pre-trained weights."""
    start = settings.networks[wildcards.network].warm_start
    return NETWORK.format(network=start, machine=wildcards.machine) if start else WEIGHTS


rule train:
    """Train one network on one machine, over all its sections."""
    input:
        cache=rules.logmel.output.cache,
        start=start_of,
    output:
        network=NETWORK,
        curve=f"{RESULTS}/networks/{{network}}/{{machine}}.csv",
    log:
        f"{RESULTS}/logs/train/{{network}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{network}}/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        script=f"{SCRIPTS}/train.py",
        code=code("train"),
        settings=lambda wildcards: flags(settings.networks[wildcards.network].training),
        compute=COMPUTE,
    shell:
        "python {params.script}"
        " --cache {input.cache:q}"
        " --start {input.start:q}"
        " {params.settings}"
        " {params.compute}"
        " --out {output.network:q}"
        " --curve {output.curve:q}"
        " >{log:q} 2>&1"
