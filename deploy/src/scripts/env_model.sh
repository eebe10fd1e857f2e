# Parameters: env; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh,
# own_view.sh. Tells what compose makes of the project's own files with the variables of $env, which aren't
# written yet.
made=
cleanup() { [ -z "$made" ] || (cd "$dir" && rm -f $made); }
enter
# A file that compose is to read has to be there.
for file in .env infra/.env.prod; do
    if [ ! -e "$file" ] || { [ "$file" != .env ] && [ -L "$file" ]; }; then
        put "$file" 600 </dev/null
        made="$made $file"
    fi
done
point_at_env infra/.env
made="$made .slipway/put"
printf '%s' "$env" | base64 -d >.slipway/put
env_file=.slipway/put
project=$(own_view marked --format json 2>/dev/null) || refused marked --format json
list_volumes
tell_own "$project"
# Another step writes it; without it, what compose reads next isn't there.
case $project in *SLIPWAY_READS_ENV_PROD*) made=$(printf '%s' "$made" | sed 's| infra/[.]env[.]prod||') ;; esac
