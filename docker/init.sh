#!/usr/bin/env bash
# Prepares what the services of docker-compose.yml share: Airflow's database, the administrator, the
# pools, the bucket of the lake. May run again at any time: what is there is left as it is.
set -euo pipefail

airflow db migrate
airflow users create --username admin --password "$AIRFLOW_ADMIN_PASSWORD" --role Admin \
  --firstname Hearback --lastname Admin --email admin@localhost
airflow pools import "$(dirname "$0")/pools.json"
python -c 'import s3fs; s3fs.S3FileSystem().makedirs("hearback", exist_ok=True)'
