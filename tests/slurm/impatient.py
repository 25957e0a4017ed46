"""snakemake, but asking Slurm every second how its jobs are.

The plugin waits ten seconds longer each time that no job has ended since it last asked: right on a cluster, whose
controller many share and whose jobs take hours, and long for a test.
"""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)

if __name__ == "__main__":
    sys.exit(main())
