"""What a child that computes is told of threads."""

from __future__ import annotations

from demucs_server_worker.machine.openmp import openmp_environment


def test_the_number_of_threads_is_ours_and_the_rest_stays() -> None:
    made = openmp_environment({"HOME": "/x", "OMP_NUM_THREADS": "9"}, 3)
    assert (made["HOME"], made["OMP_NUM_THREADS"], made["MKL_NUM_THREADS"]) == ("/x", "3", "3")


def test_threads_that_wait_sleep_unless_the_user_says_otherwise() -> None:
    assert openmp_environment({}, 1)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert openmp_environment({"OMP_WAIT_POLICY": "ACTIVE"}, 1)["OMP_WAIT_POLICY"] == "ACTIVE"
