# Put the databases of a backup in the place of those that there are.
#
# Use: sh databases.sh FOLDER OWNER, the role that they are to belong to. PostgreSQL is found through libpq's PGHOST and
# so on; the user may make databases. A database that the backup does not have is left as it is.
# Each is restored beside the one in use; then all take their places in one transaction. A run that is cut off before
# that has changed nothing, one after it has nothing left but to drop the old ones; a second run converges.
set -eu
PATH="/usr/lib/postgresql/15/bin:$PATH"
folder=$1
owner=$2
ask() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname=postgres "$@"; }
export PGOPTIONS="-c client_min_messages=warning" # not a notice for each database that is not there to be dropped

# A pod is let through to the server only some time after it has started, where NetworkPolicies are in force.
for _ in $(seq 60); do pg_isready --quiet && break || sleep 1; done

swap="BEGIN;"
for dump in "$folder"/*.dump; do
    database=$(basename "$dump" .dump)
    ask --command="DROP DATABASE IF EXISTS ${database}_restored WITH (FORCE)"
    ask --command="DROP DATABASE IF EXISTS ${database}_replaced WITH (FORCE)"
    ask --command="CREATE DATABASE ${database}_restored OWNER $owner TEMPLATE template0"
    ask --command="REVOKE CONNECT ON DATABASE ${database}_restored FROM PUBLIC"
    pg_restore --exit-on-error --no-owner --role="$owner" --dbname="${database}_restored" "$dump"
    echo "restored $database beside the one in use"
    if test -n "$(ask --command="SELECT 1 FROM pg_database WHERE datname = '$database'")"; then
        # Whoever is connected would hold the name; MLflow was stopped before.
        ask --command="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$database'" > /dev/null
        swap="$swap ALTER DATABASE $database RENAME TO ${database}_replaced;"
    fi
    swap="$swap ALTER DATABASE ${database}_restored RENAME TO $database;"
done
ask --command="$swap COMMIT;"
echo "the restored databases are in use"
for dump in "$folder"/*.dump; do
    database=$(basename "$dump" .dump)
    ask --command="DROP DATABASE IF EXISTS ${database}_replaced WITH (FORCE)"
done
