"""What a process that steps many small networks should be told, once; never done on import."""

import ctypes
import os
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST = 2**25  # bytes; glibc takes no more

PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
"""Environment in which torch rounds alike on all x86-64 processors that have AVX2, whoever made them."""

_MKL_BRANCH, _MKL_COMPATIBLE = 1, 3  # of <mkl_types.h>


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


def compute_portably() -> None:
    """From here on, torch rounds as on any other x86-64 processor that has AVX2 (:data:`PORTABLE`).

    Otherwise its libraries choose their kernels, and with them the order of their sums, by the processor's maker and
    newest instructions. They choose once, when they first compute, and processes started later inherit the choice.

    Raises:
        ValueError: if torch has computed already, or there is no such processor, or no MKL in torch.
    """
    before = {name: os.environ[name] for name in PORTABLE if name in os.environ}
    os.environ.update(PORTABLE)
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or _mkl_branch() != _MKL_COMPATIBLE:
        for name in PORTABLE:  # what is refused is not to hold for processes started later either
            del os.environ[name]
        os.environ.update(before)
        wanted = " ".join(f"{name}={value}" for name, value in PORTABLE.items())
        raise ValueError(
            f"This process cannot compute portably: torch has computed already, or has no MKL, or there is no AVX2. Start "
            f"Python with {wanted} in its environment, on an x86-64 processor with AVX2, or leave portable out."
        )


def _mkl_branch() -> int | None:
    """What MKL, inside of torch's library, chooses its kernels by; None if there is none."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    asked = getattr(ctypes.CDLL(str(library)), "mkl_serv_cbwr_get", None) if library.is_file() else None
    return None if asked is None else int(asked(_MKL_BRANCH))
