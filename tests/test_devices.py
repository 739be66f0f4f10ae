"""Where memory ends, the user reads one line with the batch size to try; precision follows the hardware."""

import pytest
import torch

from sim2real_aug.devices import memory_advice, resolve_device, resolve_precision
from sim2real_aug.errors import BadInput, Fault

# What torch 2.13 says on a GPU.
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.10 GiB is "
    "free. Including non-PyTorch memory, this process has 78.00 GiB memory in use. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


def message_of(error: Exception, value: int, **options: object) -> str:
    with pytest.raises(Fault) as caught, memory_advice("d3po.batch_size", value, **options):  # type: ignore[arg-type]
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


def test_what_ran_out_with_what_and_what_to_try() -> None:
    assert message_of(torch.OutOfMemoryError(CUDA), 24) == (
        "GPU memory ran out with d3po.batch_size=24; try d3po.batch_size=12 (CUDA out of memory. Tried to allocate "
        "2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.10 GiB is free)"
    )


@pytest.mark.parametrize(("value", "least", "tried"), [(3, 1, 1), (9, 6, 6), (25, 6, 12)])
def test_half_but_not_less_than_has_an_effect(value: int, least: int, tried: int) -> None:
    assert f"; try d3po.batch_size={tried} (" in message_of(torch.OutOfMemoryError(CUDA), value, least=least)


@pytest.mark.parametrize(("value", "least"), [(1, 1), (2, 6), (6, 6)])
def test_at_the_least_there_is_no_batch_to_try(value: int, least: int) -> None:
    assert "; no batch is smaller: " in message_of(torch.OutOfMemoryError(CUDA), value, least=least)


def test_what_has_to_be_typed_besides() -> None:
    assert "; try d3po.batch_size=2 --overwrite (" in message_of(MemoryError("x"), 4, also="--overwrite")


def test_the_cpus_own_error_counts() -> None:
    expected = r"^memory ran out with batch_size=8; try batch_size=4 \(.*DefaultCPUAllocator"
    with pytest.raises(Fault, match=expected), memory_advice("batch_size", 8):
        torch.empty(10**15)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), Fault("nan")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_advice("batch_size", 8):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("name", ["cuda:2", "gpu", "cuda:x", "xpu"])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BadInput, match=f"^device '{name}' is not available here; use auto or cpu$"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_is_found_without_a_tensor_on_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device(name) == torch.device(name)  # there is none here: a tensor would raise


@pytest.mark.parametrize(("amx", "gpu"), [(True, (7, 5)), (False, (9, 0))])
def test_auto_is_bf16_where_the_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, gpu: tuple[int, int]
) -> None:
    """A T4 (7.5) only emulates it; torch calls that supported."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", {torch.device("cuda:1"): gpu}.__getitem__)
    assert resolve_precision("auto", torch.device("cpu")) == ("bf16" if amx else "fp32")
    assert resolve_precision("auto", torch.device("cuda:1")) == ("bf16" if gpu[0] >= 8 else "fp32")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"


def test_another_precision_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown precision 'fp16'"):
        resolve_precision("fp16", torch.device("cpu"))
