"""Airflow's scheduler, or a Celery worker, with the libraries of the steps in memory.

The workers of Airflow's LocalExecutor are forks of its scheduler, and tasks are forks of workers:
what is imported here is imported once instead of at the start of every task. Importing is all that
is done: no threads, no connections, nothing that a fork could break.

``python -m pipelines.warm scheduler`` is ``airflow scheduler``, and so on.
"""

if __name__ == "__main__":
    import runpy

    import duckdb  # noqa: F401
    import fsspec  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    runpy.run_module("airflow", run_name="__main__", alter_sys=True)
