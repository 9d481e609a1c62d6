"""Errors of a device, known by name and text, since neither torch nor a GPU is needed to read them.

torch gives most errors of CUDA the type `AcceleratorError`; those of cuDNN, cuBLAS, NCCL, Triton, and of the CPU's
allocator are plain RuntimeErrors.
"""

import re

_NO_MEMORY = re.compile(
    "can't allocate memory|not enough memory"  # torch's allocator of the CPU
    "|CU(DNN|BLAS|FFT|SOLVER|SPARSE)_STATUS_ALLOC_FAILED"
    "|(CUDA|Cuda|HIP)( driver)? (error|failure)[^\n]*out of memory"
)

_LOST = re.compile(
    "illegal memory access|device-side assert|launch failure|illegal instruction|misaligned address"
    "|invalid program counter|hardware stack error|launch timed out|uncorrectable (ECC|NVLink)"
    "|CU(DNN|BLAS)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
)

_PASSING = re.compile("invalid argument|invalid configuration|invalid device|no kernel image|not supported|captur")
"""Errors of one call, after which CUDA goes on."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: Python's, or that of any library that computes."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def is_device_lost(error: BaseException) -> bool:
    """Whether an error leaves this process without its GPU: every later call to CUDA fails, too.

    A failed kernel breaks the process's CUDA context for good (an illegal access, an assertion on the device); only a
    new process has another. An error of CUDA that is unknown here counts as one of these.

    References:
        NVIDIA, CUDA Runtime API, `cudaError`: "This leaves the process in an inconsistent state".
    """
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    text = str(error)
    unknown = type(error).__name__ == "AcceleratorError" and _PASSING.search(text) is None
    return unknown or _LOST.search(text) is not None
