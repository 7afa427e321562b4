#!/bin/bash
# Read by the image once, on an empty disk: a database and a role for each who has records here.
# In a subshell, because the image's entry point sources this file and would keep its options.
(
  set -euo pipefail
  create() {
    # The password reaches psql by the environment, and SQL by psql's own quoting; no command line shows it.
    PASSWORD="$2" psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --set role="$1" <<'SQL'
\getenv password PASSWORD
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
  }
  create mlflow "$MLFLOW_PASSWORD"
  create feast "$FEAST_PASSWORD"
)
