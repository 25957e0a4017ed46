# inputs:  the file that backbone.weights names, if it names one
# outputs: data/weights/<backbone>-<source>.safetensors


rule weights:
    """Write the pre-trained weights into a file, so that compute nodes need no Internet access."""
    input:
        file=weights_file,
    output:
        weights=WEIGHTS,
    log:
        f"{settings.data_dir}/weights/logs/{{backbone}}.log",
    benchmark:
        f"{settings.data_dir}/weights/benchmarks/{{backbone}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/weights.py",
        code=code("weights", unused=("losses",)),
        settings=lambda wildcards: flags(BACKBONES[wildcards.backbone]),
    shell:
        command("{params.settings}", "--out {output.weights:q}")
