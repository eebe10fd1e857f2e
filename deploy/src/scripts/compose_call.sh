# Parameters: slug; after project_files.sh, room.sh, front_door.sh. How compose is called, the same for every script.

# files_view ARGUMENTS: compose over the project's files, with the variables of $env_file and no others. The files may name
# any file of the server, or the network's: compose reads them in the room, without git's and Slipway's part of the
# directory, and with an empty file or directory in the place of each one that $unread has, a path a line. It gets half of
# the memory, between 2 and 4 GiB, and half a minute of a processor: a few lines of YAML can ask for all that there is.
# $reading says how it reads the files. `marked`: in the place of what .env and .env.prod hold for containers there is one
# variable each, by which the model shows who reads them, and how. `text`: the compose files are one text, in which nothing
# means anything but variables, so that no value that is missing makes them invalid. `both`: of ARGUMENTS that end in `config`,
# first whether there is a model of what is marked, and that, then the variables.
env_file=.env
unread=
reading=
files_view() {
    if [ -f "$override" ]; then set -- -f "$dir/$override" "$@"; fi
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    case $reading$values in
    .env) set -- --env-file "$dir/.env" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    *) set -- --env-file "$dir/.slipway/variables" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    esac
    in_room "$compose_room" "$values" "$(compose_program)" "$unread" "$reading" \
        --project-name "$slug" --project-directory "$dir/infra" "$@"
}
compose_room='
values=$1 program=$2 unread=$3 reading=$4
shift 4
mark() {
    if [ ! -f "$1" ] || [ -L "$1" ]; then return 0; fi
    printf "%s=\"1\"\n" "$2" >"$room$dir/.slipway/$2" && mount --bind "$room$dir/.slipway/$2" "$room$dir/$1"
}
mark_all() { mark .env SLIPWAY_READS_ENV && mark infra/.env SLIPWAY_READS_ENV && mark infra/.env.prod SLIPWAY_READS_ENV_PROD; }
write_text() {
    printf "x-text: |2\n"
    for part in infra/*.yml infra/*.yaml; do
        if [ ! -f "$part" ] || [ -L "$part" ]; then continue; fi
        case $part in
        infra/compose.slipway.yml) continue ;;
        infra/compose.base.yml | infra/compose.prod.yml) ;;
        *) grep -qF "${part##*/}" infra/compose.base.yml infra/compose.prod.yml || continue ;;
        esac
        sed "/^[[:space:]]*#/d; s/^/  /; s/[[:space:]]#[^\"$quote]*\$//" "$part"
    done
}
quote=$(printf "\047")
# What a shell has, and no file of variables: only for files that can not do without.
shell_variables() {
    grep -qsE "[$][{](HOSTNAME|LOGNAME|PWD|USER):?[?]" infra/compose.base.yml infra/compose.prod.yml || return 0
    for variable in HOSTNAME="$(uname -n)" LOGNAME=root PWD="$dir/infra" USER=root; do
        name=${variable%%=*}
        if grep -qE "[$][{]$name:?[?]" infra/compose.base.yml infra/compose.prod.yml &&
            ! grep -qs "^$name=" "$room$dir/.slipway/variables" .env; then
            printf "%s " "$variable"
        fi
    done
}
furnish() {
    cd "$dir" && exec 8<"$values" && build 16k && : >"$room/compose" && : >"$room/empty" || return
    lay "$program" none bind /compose
    for part in .git .slipway; do
        if [ -d "$part" ]; then lay tmpfs tmpfs size=4m "$dir/$part"; fi
    done
    hang || return
    printf "%s\n" "$unread" | while IFS= read -r part; do
        case $part in "$dir"/*) ;; *) continue ;; esac
        if [ -L "$part" ]; then
            continue
        elif [ -d "$part" ]; then
            mount -t tmpfs -o size=1k tmpfs "$room$part" || exit
        elif [ -e "$part" ]; then
            mount --bind "$room/empty" "$room$part" || exit
        fi
    done || return
    if [ "$reading$values" != .env ]; then
        cat <&8 >"$room$dir/.slipway/variables" || return
        if [ -z "$reading" ] && [ -f .env ]; then mount --bind "$room$dir/.slipway/variables" "$room$dir/.env"; fi || return
    fi
    known=$(shell_variables)
    case $reading in
    marked) mark_all || return ;;
    text)
        write_text >"$room$dir/.slipway/text" || return
        for part in base prod; do
            mount --bind "$room$dir/.slipway/text" "$room$dir/infra/compose.$part.yml" || return
        done
        ;;
    esac
}
bound() {
    while read -r name most _; do [ "$name" != MemTotal: ] || break; done </proc/meminfo
    most=$((most / 2))
    if [ "$most" -lt 2097152 ]; then most=2097152; fi
    if [ "$most" -gt 4194304 ]; then most=4194304; fi
    ulimit -v "$most" && ulimit -t 30
}
furnish || no_room
exec 8<&-
bound || no_room
set -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C $known \
    chroot "$room" /compose "$@"
[ "$reading" = both ] || exec "$@"
variables=$("$@" --variables) || exit
mark_all || no_room
made=yes
model=$("$@" --format json) || made=no model=
printf "%s\n" "$made" "$model" "$variables" end
'

# compose_program: the file behind `docker compose`.
compose_program() {
    for place in "${HOME:-/root}/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        if [ -x "$place/cli-plugins/docker-compose" ]; then
            echo "$place/cli-plugins/docker-compose"
            return
        fi
    done
    docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}' 2>/dev/null || :
}

# resolve: what compose makes of the project's files, once, in $model. It's what is judged, and what is started: whatever
# becomes of the files meanwhile.
resolve() {
    [ -n "${model:-}" ] || model=$(files_view config --format json)
}

# project_compose ARGUMENTS: compose with that model.
project_compose() {
    resolve || return 1
    started_model | compose --project-directory "$dir/infra" -f - "$@"
}

# started_model: the model, with the slots of the services behind the front door, and with those services under a profile
# of nobody's that are to be left alone: for compose they would be orphans. What pull_images has pulled isn't pulled again,
# when nobody is logged in any more.
started_model() {
    slot_edits
    if [ -z "${pulling:-}" ]; then
        edits="$edits
s/^      \"pull_policy\": \"\(always\|daily\|weekly\|every_[^\"]*\)\"/      \"pull_policy\": \"missing\"/"
    fi
    stubs=
    for service in $(left_alone); do
        stubs="$stubs\"$service\": {\"image\": \"-\", \"profiles\": [\"slipway-left-alone\"]},"
    done
    edits="$edits
s/^  \"services\": {\$/&$stubs/"
    printf '%s' "$model" | sed "$edits"
}

# said_of KEY: what the services of the model say under it, a line each: service, word.
said_of() {
    resolve || return 1
    printf '%s\n' "$model" | awk -v "key=\"$1\":" '
        /^  "/ { within = $1 == "\"services\":" }
        within && /^    "/ { name = $1; gsub(/[":]/, "", name) }
        within && /^      "/ && $1 == key { word = $2; gsub(/[",]/, "", word); print name, word }'
}

# pull_images POLICY MODULES: pulls what the services run, all that will be pulled of it: what a service says that it never
# pulls is here already, and what it says is pulled again and again is asked for now. Whatever they say, MODULES are the
# release.
pull_images() {
    policy=$1
    shift
    never=' ' again=''
    while read -r service its_policy; do
        case " $* " in *" $service "*) continue ;; esac
        case $its_policy in
        never) never="$never$service " ;;
        always | daily | weekly | every_*) again="$again $service" ;;
        esac
    done <<END
$(said_of pull_policy)
END
    set --
    if [ "$never" != ' ' ]; then
        for service in $(all_services); do
            case $never in *" $service "*) ;; *) set -- "$@" "$service" ;; esac
        done
        [ $# -gt 0 ] || return 0
    fi
    if [ "$policy" = always ]; then again=; fi
    pulling=yes
    project_compose pull -q --policy "$policy" "$@" && { [ -z "$again" ] || project_compose pull -q $again; } && pulling='' && return
    pulling=''
    return 1
}

# all_services: the names of all services of the model. Compose prints it with an indentation of two.
all_services() {
    resolve || return 1
    names=$(printf '%s\n' "$model" | sed -n '/^  "services": {$/,/^  }/s/^    "\([A-Za-z0-9._-]*\)": {$/\1/p')
    if [ -n "$names" ]; then printf '%s\n' "$names"; else project_compose config --services; fi
}

# find_bound SERVICES: sets $bound to these, and what depends on them.
find_bound() {
    bound=" $* "
    for round in 1 2 3; do
        bound="$bound$(printf '%s\n' "$model" | awk -v "wanted=$bound" '
            /^    "[^"]*": \{$/ { name = $1; gsub(/[":]/, "", name) }
            /^      "depends_on": \{$/ { depends = 1; next }
            /^      \}/ { depends = 0 }
            depends && /^        "[^"]*": \{$/ { on = $1; gsub(/[":]/, "", on); if (index(wanted, " " on " ")) printf "%s ", name }
        ')"
    done
}

# compose ARGUMENTS: with the variables of $env_file and no others. Those of the server's own environment would beat
# them, and a container that names one without a value would get it: only names and places that docker itself works with
# stay, nothing that may hold a credential.
compose() (
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    set -- compose --project-name "$slug" --env-file "$values" "$@"
    # As docker itself starts it, once it has looked for it: unless docker is a script, which may tell it something.
    program='' magic=''
    client=$(command -v docker) || :
    case $client in
    /*)
        { IFS= read -r magic <"$client"; } 2>/dev/null || :
        program=$(compose_program)
        ;;
    esac
    case $program$magic in
    /*?ELF*)
        export DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND=docker
        set -- "$program" "$@"
        ;;
    *) set -- docker "$@" ;;
    esac
    while read -r word variable; do
        variable=${variable%%=*}
        case $word:$variable in
        export:PATH | export:HOME | export:LC_ALL | export:TMPDIR | export:XDG_CONFIG_HOME | export:XDG_RUNTIME_DIR) ;;
        export:DOCKER_API_VERSION | export:DOCKER_CERT_PATH | export:DOCKER_CONFIG | export:DOCKER_CONTEXT) ;;
        export:DOCKER_HOST | export:DOCKER_TLS | export:DOCKER_TLS_VERIFY | export:DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND) ;;
        # A bash keeps these for itself.
        export:SHELLOPTS | export:BASHOPTS | *[!A-Za-z0-9_:]* | *: | *:[0-9]*) ;;
        export:*) unset "$variable" ;;
        esac
    done <<END
$(export -p)
END
    # What would contradict our own options, whoever says it in .env.
    export COMPOSE_IGNORE_ORPHANS=false COMPOSE_REMOVE_ORPHANS=false
    exec "$@"
)
