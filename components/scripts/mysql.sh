#!/bin/sh
# Makes the data folder of MySQL where there is none. Runs before every start of the server, alone with the volume.
# The password is set at the server's start, by init.sql: until then nobody but this pod reaches it.
set -eu
data=/var/lib/mysql/data

rm -rf "$data.new" # half made, by a pod that was killed
if [ ! -d "$data/mysql" ]; then
    mysqld --initialize-insecure --datadir="$data.new"
    mv --no-target-directory "$data.new" "$data"
    sync "$(dirname "$data")"
fi
