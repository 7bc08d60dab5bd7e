"""Measurements, each a command that prints ours beside theirs and writes JSON into bench/results.

`python -m bench.NAME`, or all of them, `python -m bench.all`. Without --repo the models are those of `bench.seeded`,
made at first use. BENCH_QUICK=1 makes each as short as it can be: to see that it works, not for figures.
"""
