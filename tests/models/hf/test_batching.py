"""Right-sized batches, and what happens when they do not fit."""

import pytest

from probes.core.errors import MachineError, ProbesError
from probes.models.hf.batching import Batcher, Failed, batches, is_device_lost, is_out_of_memory


def test_batches_hold_every_index_once_within_both_bounds():
    lengths = [5, 100, 7, 30, 30, 8, 1, 60, 6]
    made = batches(lengths, 3, 90)
    assert sorted(at for batch in made for at in batch) == list(range(len(lengths)))
    assert made[0] == [1]  # longer than the bound: alone
    for batch in made[1:]:
        assert len(batch) <= 3
        assert max(lengths[at] for at in batch) * len(batch) <= 90
    longest = [max(lengths[at] for at in batch) for batch in made]
    assert longest == sorted(longest, reverse=True)


def run(batcher, lengths, function):
    done = {}
    for batch, result in batcher.run(lengths, function):
        for place, at in enumerate(batch):
            assert at not in done
            done[at] = result if isinstance(result, Failed) else result[place]
    return done


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't"])
def test_memory_halves_this_batch_and_those_to_come(message):
    sizes = []

    def function(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise RuntimeError(message)
        return [at * 10 for at in batch]

    batcher = Batcher(16, 10**6)
    assert run(batcher, [4] * 40, function) == {at: at * 10 for at in range(40)}
    assert [size for size in sizes if size > 3] == [16, 8, 4]
    sizes.clear()
    run(batcher, [4] * 40, function)
    assert max(sizes) <= 3


def test_one_bad_input_costs_only_itself():
    def function(batch):
        if 5 in batch:
            raise ValueError("bad pixels")
        return batch

    done = run(Batcher(8, 10**6), [1] * 20, function)
    assert done.pop(5) == Failed("ValueError: bad pixels")
    assert done == {at: at for at in range(20) if at != 5}


def test_what_no_input_is_to_blame_for_ends_all():
    def function(batch):
        raise ProbesError("wrong setting", "backend.options", "correct it")

    with pytest.raises(ProbesError, match="wrong setting"):
        run(Batcher(8, 10**6), [1] * 20, function)


def test_a_single_input_that_never_fits_is_failed():
    def function(batch):
        raise RuntimeError("CUDA out of memory")

    done = run(Batcher(4, 100), [10, 20], function)
    assert set(done) == {0, 1}
    assert "out of memory" in done[0].error


def test_a_device_that_is_lost_ends_the_run():
    """Else every other input would be recorded as an error of its own."""
    asked = []

    def function(batch):
        asked.append(batch)
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

    with pytest.raises(MachineError, match="illegal memory access was encountered\\n") as caught:
        run(Batcher(4, 100), [1] * 40, function)
    assert len(asked) == 1
    assert "goes on from what is stored" in caught.value.fix


def test_which_errors_mean_memory():
    class OutOfMemoryError(RuntimeError):
        pass

    assert is_out_of_memory(OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(MemoryError())
    assert not is_device_lost(RuntimeError("CUDA error: out of memory"))
    assert not is_device_lost(ValueError("CUDA error: device lost"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
