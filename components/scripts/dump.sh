# Dump MLflow's two databases into a folder, each beside what it holds, seen in the same snapshot.
#
# Use: sh dump.sh FOLDER RECORDS ACCOUNTS, the databases' names. PostgreSQL is found through libpq's PGHOST and so on.
# They share no transaction, and the records go first: an account's permission may then name an experiment that their
# dump lacks, which no one misses; the other way round an experiment would have lost its owner.
set -eu
PATH="/usr/lib/postgresql/15/bin:$PATH"
folder=$1
here=$(dirname "$0")

dump() {
    FOLDER=$folder HERE=$here DATABASE=$1 RUNS=$2 psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$1" <<'SQL'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL TimeZone = 'UTC';
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
\! pg_dump --format=custom --snapshot="$SNAPSHOT" --file="$FOLDER/$DATABASE.part" "$DATABASE" && mv "$FOLDER/$DATABASE.part" "$FOLDER/$DATABASE.dump"
\getenv folder FOLDER
\getenv here HERE
\getenv database DATABASE
\set tables :here /tables.sql
\set runs :here /runs.sql
\set tables_json :folder / :database .tables.json
\set runs_json :folder / :database .runs.json
\pset tuples_only on
\pset format unaligned
\o :tables_json
\i :tables
;
\getenv has_runs RUNS
\if :has_runs
\o :runs_json
\i :runs
;
\endif
\o
COMMIT;
SQL
    test -f "$folder/$1.dump"
}

rm -f "$folder"/*
# A pod is let through to the server only some time after it has started, where NetworkPolicies are in force.
for _ in $(seq 60); do pg_isready --quiet && break || sleep 1; done
dump "$2" true
dump "$3" false
