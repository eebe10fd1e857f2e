# One layer for each image of the sample projects, from the binaries of this machine's Debian packages, and one for the
# front door's: nothing is pulled.
# NAME.tar.gz is the layer, NAME.digest its sha256, NAME.diff-id the sha256 of the tar inside.
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")
images=$here/../images
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# base NAME: a busybox userland plus the files of images/NAME, where there are some
base() {
  local root=$work/$1 applet
  mkdir -p "$root"/{bin,etc,proc,sys,dev,run,root,usr/bin,usr/local/bin,var} "$root"/{tmp,run/lock}
  chmod 1777 "$root/tmp"
  cp /bin/busybox "$root/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
  done
  printf '%s\n' root:x:0:0:root:/root:/bin/sh postgres:x:70:70::/var/lib/postgresql:/bin/sh redis:x:71:71::/data:/bin/sh >"$root/etc/passwd"
  printf '%s\n' root:x:0: postgres:x:70: redis:x:71: >"$root/etc/group"
  [ ! -d "$images/$1" ] || cp -r "$images/$1/." "$root/"
}

# libraries NAME FILE...: what the dynamic loader needs for these files
libraries() {
  local root=$work/$1 library
  shift
  ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/lib.*\/ld-/ { print $1 }' | sort -u |
    while read -r library; do
      [ -e "$root$library" ] || install -D "$library" "$root$library"
    done
}

pack() {
  # In this order, without times of now: the same layer each time.
  tar -C "$work/$1" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 --format=pax \
    --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include=security.capability -cf "$work/$1.tar" .
  gzip -n -1 -c "$work/$1.tar" >"$out/$1.tar.gz"
  sha256sum <"$work/$1.tar" | cut -d' ' -f1 >"$out/$1.diff-id"
  sha256sum <"$out/$1.tar.gz" | cut -d' ' -f1 >"$out/$1.digest"
}

bin=/usr/lib/postgresql/15/bin lib=/usr/lib/postgresql/15/lib share=/usr/share/postgresql/15

base app
rustc --edition 2024 -C opt-level=2 -C panic=abort -C strip=symbols -o "$work/app/app/serve" "$here/../src/bin/slipway-sample/main.rs"
install "$bin/psql" "$work/app/usr/bin/psql"
libraries app "$bin/psql" "$work/app/app/serve"
pack app

base redis
mkdir -p "$work/redis/data"
install "$(readlink -f /usr/bin/redis-server)" "$work/redis/usr/bin/redis-server"
install "$(readlink -f /usr/bin/redis-cli)" "$work/redis/usr/bin/redis-cli"
libraries redis /usr/bin/redis-server /usr/bin/redis-cli
pack redis

base postgres
root=$work/postgres
mkdir -p "$root/usr/bin" "$root$lib" "$root$bin" "$root$share" "$root/var/lib/postgresql/data" "$root/run/postgresql"
for program in postgres initdb pg_ctl pg_isready psql pg_dump; do
  install "$bin/$program" "$root$bin/$program"
  ln -s "$bin/$program" "$root/usr/bin/$program"
done
for module in "$lib"/{plpgsql,dict_snowball,utf8_and_*}.so; do
  install "$module" "$root$lib/"
done
cp -r "$share/." "$root$share/"
rm -rf "$root$share/man"
for zone in UTC Etc/UTC GMT; do
  install -D "/usr/share/zoneinfo/$zone" "$root/usr/share/zoneinfo/$zone"
done
libraries postgres "$bin"/{postgres,initdb,pg_ctl,pg_isready,psql,pg_dump} "$lib"/plpgsql.so
pack postgres

# As in the official image, whose program can't be executed where this capability was dropped.
base caddy
install -m 755 "$SLIPWAY_CACHE/caddy/caddy" "$work/caddy/usr/bin/caddy"
setcap cap_net_bind_service=+ep "$work/caddy/usr/bin/caddy"
mkdir -p "$work/caddy"/{config,data,srv,etc/caddy}
# With the world's own authority.
install -D -m 644 "$SLIPWAY_CACHE/rootfs/etc/ssl/certs/ca-certificates.crt" "$work/caddy/etc/ssl/certs/ca-certificates.crt"
pack caddy
