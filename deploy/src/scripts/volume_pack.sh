# Parameters: volume; after project_files.sh, require_project.sh, containers.sh, lock.sh. A volume's content as an
# archive on stderr, which nothing else is written to from the mark on.
enter
[ "$(docker volume inspect --format '{{index .Labels "com.docker.compose.project"}}' "$volume")" = "$slug" ] ||
    die copy-failed "$volume isn't a volume of $slug"
[ -z "$(docker ps -q --filter "volume=$volume")" ] || die copy-failed "$volume is in use, and can't be copied as it is"
place=$(docker volume inspect --format '{{.Mountpoint}}' "$volume")
exec 4>&2 2>.slipway/pack
printf '\n%s archive\n' "$mark" >&4
packed=0
tar --create --directory="$place" --numeric-owner --one-file-system --sparse . >&4 || packed=$?
exec 4>&- 2>/dev/null
if [ "$packed" != 0 ]; then die copy-failed "tar can't read $volume: $(tail -n 1 .slipway/pack | cut -c 1-200)"; fi
tell packed yes
