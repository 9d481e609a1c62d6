"""Errors of a device are told apart: lack of memory, a GPU that answers no more, and what concerns one call alone."""

import pytest
import torch

from nascli.cli.failures import explain_failure
from nascli.device_errors import is_device_lost, is_out_of_memory
from nascli.engine.device import name_out_of_memory

TAIL = "\nSearch for `cudaError' in https://docs.nvidia.com\nCUDA kernel errors might be asynchronously reported"

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory" + TAIL),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]
LOST = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered" + TAIL),
    torch.AcceleratorError("CUDA error: device-side assert triggered" + TAIL),
    torch.AcceleratorError("CUDA error: unspecified launch failure" + TAIL),
    torch.AcceleratorError("CUDA error: an error of a later version" + TAIL),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle)`"),
]
OTHERS = [
    torch.AcceleratorError("CUDA error: invalid configuration argument" + TAIL),
    torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device" + TAIL),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ValueError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", [*NO_MEMORY, *LOST, *OTHERS], ids=str)
def test_an_error_is_of_one_kind(error: Exception) -> None:
    kind = error in NO_MEMORY, error in LOST
    assert (is_out_of_memory(error), is_device_lost(error)) == kind


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_steps_and_batches_see_one_type_for_lack_of_memory(error: Exception) -> None:
    with pytest.raises(torch.OutOfMemoryError), name_out_of_memory():
        raise error


def test_a_command_says_that_a_gpu_failed_and_how_to_go_on() -> None:
    explained = explain_failure(LOST[0])
    assert (explained["code"], explained["exit_code"]) == ("failed", 1)
    assert explained["message"].endswith("an illegal memory access was encountered")
    assert "--resume" in explained["remedy"]
