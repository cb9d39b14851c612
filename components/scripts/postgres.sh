#!/bin/sh
# Makes the data folder of PostgreSQL where there is none, and the roles and databases in it as they are to be.
# Runs before every start of the server, alone with the volume. PGDATA: the folder. /secrets/password: of both roles.
set -eu
PATH="/usr/lib/postgresql/15/bin:$PATH"

rm -rf "$PGDATA.new" # half made, by a pod that was killed
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --pgdata="$PGDATA.new" --username=postgres --pwfile=/secrets/password --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --data-checksums
    mv --no-target-directory "$PGDATA.new" "$PGDATA"
    sync "$(dirname "$PGDATA")"
fi
chmod 0700 "$PGDATA" # the server refuses what fsGroup makes of it

options="-c listen_addresses='' -c unix_socket_directories=/tmp -c hba_file=/scripts/pg_hba.conf"
pg_ctl start --pgdata="$PGDATA" --wait --timeout=3600 --options="$options" # an hour: it may have to recover first
trap 'pg_ctl stop --pgdata="$PGDATA" --mode=fast --wait' EXIT

psql --host=/tmp --username=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 postgres <<'SQL'
\set password `cat /secrets/password`
ALTER ROLE postgres PASSWORD :'password';
SELECT 'CREATE ROLE mlflow LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlflow') \gexec
ALTER ROLE mlflow PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER mlflow', wanted) FROM unnest(ARRAY['mlflow', 'mlflow_auth']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = wanted) \gexec
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth FROM PUBLIC;
SQL
