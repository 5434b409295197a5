"""Airflow DAGs: schedule, order, retries, pools, assets, parameters. Nothing is computed here."""
