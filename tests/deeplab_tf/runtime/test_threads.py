import threading
import time

import pytest

from deeplab_tf.runtime.threads import map_in_order, read_ahead


def pool_threads():
    """Those of thread pools; whatever else runs in the process is not ours to count."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}


def ends_with(before):
    """Says whether no other threads of pools are left; those without work need a moment to end."""
    end = time.monotonic() + 10
    while pool_threads() - before and time.monotonic() < end:
        time.sleep(0.001)
    return not pool_threads() - before


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    later = threading.Event()

    def square(number):
        if workers > 1 and number == 0:
            assert later.wait(timeout=30)  # a result after it is there first
        if number == 1:
            later.set()
        return number * number

    assert list(map_in_order(square, range(20), workers=workers)) == [number * number for number in range(20)]


def test_items_are_taken_only_a_few_ahead_of_the_result_in_use():
    taken = []
    items = (taken.append(number) or number for number in range(20))
    for used, number in enumerate(map_in_order(lambda number: number, items, workers=2, ahead=3)):
        assert number == used and len(taken) <= used + 5


def test_an_error_comes_in_the_place_of_its_result_and_nothing_runs_after_it():
    before = pool_threads()
    results = map_in_order(lambda number: 1 // (3 - number), range(9), workers=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert ends_with(before)


def test_stopping_early_leaves_nothing_running():
    before = pool_threads()
    results = map_in_order(lambda number: number, iter(range(9)))
    assert next(results) == 0
    results.close()
    ahead = read_ahead(iter(range(9)))
    assert next(ahead) == 0
    ahead.close()
    assert ends_with(before)


def test_the_collector_may_close_a_forgotten_generator_in_a_thread_that_is_starting():
    results = map_in_order(lambda item: item, range(9))
    next(results)
    begin = threading.Event()

    def close():
        begin.wait()
        results.close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    with getattr(threading, "_shutdown_locks_lock", threading.Lock()):  # a starting thread of Python 3.11, 3.12 has it
        begin.set()
        closing.join(5)
        assert not closing.is_alive()


def test_reading_ahead_takes_the_next_item_while_one_is_in_use():
    second = threading.Event()

    def items():
        assert threading.current_thread() is not threading.main_thread()
        yield 1
        second.set()
        yield 2

    ahead = read_ahead(items())
    assert next(ahead) == 1 and second.wait(timeout=30)
    assert list(ahead) == [2]


def test_what_goes_wrong_while_reading_ahead_is_raised_after_the_items_before_it():
    def items():
        yield 1
        yield None
        raise OSError("gone")

    ahead = read_ahead(items())
    assert [next(ahead), next(ahead)] == [1, None]
    with pytest.raises(OSError, match="gone"):
        next(ahead)


@pytest.mark.parametrize(("budget", "together"), [(1, 1), (5, 1), (6, 2), (100, 4)])
def test_as_many_items_are_given_out_as_the_budget_allows_and_one_always(budget, together):
    given = []

    def items():
        for number in range(8):
            given.append(number)
            yield number

    results = []
    for result in map_in_order(lambda item: item, items(), workers=4, ahead=3, cost=lambda _: 3, budget=budget):
        # Those that wait, and the one whose turn comes next.
        assert len(given) - len(results) <= together + 1
        results.append(result)
    assert results == list(range(8)) == given
