"""Workers: where the episodes of a training are played. The result is the same everywhere.

``Local()`` plays them in this process, ``Processes(n)`` on the cores of this machine,
``RayCluster(...)`` on the machines of a Ray cluster.
"""

from rl_lr.workers.cluster import RayCluster
from rl_lr.workers.local import Local
from rl_lr.workers.processes import Processes
from rl_lr.workers.protocol import WorkerError, Workers

__all__ = ["Local", "Processes", "RayCluster", "WorkerError", "Workers"]
