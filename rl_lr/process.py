"""What a process that steps many small networks should be told, once; never done on import."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST = 2**25  # bytes; glibc takes no more


def dedicate_process() -> None:
    """One intra-op thread, and freed memory stays with the process.

    Small networks are many times slower on two threads than on one. Activations are freed and
    wanted again at every step; by default glibc hands the larger ones back to the system each
    time, and a step then spends up to a third of its time on page faults. Memory in use stays as
    it was at its peak.
    """
    torch.set_num_threads(1)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
