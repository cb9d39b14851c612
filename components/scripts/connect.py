"""Asks an external PostgreSQL, by TLS, whether it lets the user into each database; ends in one line where not.

Runs in a pod, with libpq's PGHOST, PGPORT, PGUSER and PGPASSWORD. DATABASES: their names. CA: a file; without, the
public authorities.
"""
# ruff: noqa: INP001 - a program of its own

import os
import sys
import time

import certifi  # type: ignore[import-not-found,unused-ignore]
import psycopg2  # type: ignore[import-not-found,import-untyped,unused-ignore]

_TRIES = 10


def ask(name: str) -> None:
    """Connect to one database; again, for a while, where no server answers: NetworkPolicies learn of a new pod late."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            psycopg2.connect(
                dbname=name,
                sslmode="verify-full",
                sslrootcert=os.environ.get("CA") or certifi.where(),
                connect_timeout=10,
            ).close()
        except psycopg2.OperationalError as error:
            if not left or "FATAL" in str(error):  # the second is the server's own answer
                where = f"{os.environ['PGHOST']}:{os.environ['PGPORT']}"
                sys.exit(f"database {name} at {where}, as {os.environ['PGUSER']}: {' '.join(str(error).split())}")
            time.sleep(2)
        else:
            return


def main() -> None:
    """Ask each."""
    for name in os.environ["DATABASES"].split():
        ask(name)


if __name__ == "__main__":
    main()
