#!/bin/sh
# The part of the official image's contract that projects lean on: POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB make
# the cluster when the volume is empty, and are ignored ever after.
export PATH="/usr/lib/postgresql/15/bin:$PATH" PGDATA="${PGDATA:-/var/lib/postgresql/data}"
[ "$1" = postgres ] || exec "$@"
user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
as_postgres() { su -s /bin/sh postgres -c "$1"; }

mkdir -p "$PGDATA" /var/run/postgresql
chown -R postgres:postgres "$PGDATA" /var/run/postgresql
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
    exit 1
  fi
  (umask 077; printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password)
  chown postgres /tmp/password
  as_postgres "initdb -D $PGDATA -U '$user' --pwfile=/tmp/password -A scram-sha-256 --locale=C -E UTF8 --no-sync --no-instructions" >/dev/null || exit 1
  rm -f /tmp/password
  sed -i 's/^\(local .*\)scram-sha-256/\1trust/' "$PGDATA/pg_hba.conf"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  if [ "$database" != postgres ]; then
    as_postgres "echo 'create database \"$database\"' | postgres --single -j -D $PGDATA postgres" >/dev/null || exit 1
  fi
fi
echo 'PostgreSQL init process complete; ready for start up.'
exec su -s /bin/sh postgres -c 'exec postgres -c listen_addresses="*" -c unix_socket_directories=/var/run/postgresql -c fsync=off'
