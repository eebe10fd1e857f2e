# Parameters: needles; after project_files.sh. Seeks known secrets in places where they shouldn't be. Whatever the
# project, or a container of it, has put there: no link is followed, and no file may take the server's memory or time.

# sought: the patterns, one a line. They come through a pipe, from a builtin: they're in nobody's arguments and in no file.
sought() { printf '%s' "$needles" | base64 -d; }

# holding OPTIONS FILES: the files that hold one, one a line. Of a file that goes away meanwhile, grep says nothing; what it
# says then is that a line is too long for it. That, and that there was too much to read in time, is told.
exec 4>&1
holding() {
    sought | {
        {
            said=$( (
                # Every shell that is a server's sh has it.
                # shellcheck disable=SC3045
                ulimit -v 1048576
                exec timeout 30 grep -lasZF "$@" >&5
            ) 2>&1) || [ $? -ne 124 ] || said=late
        } 5>&1
        [ -z "$said" ] || tell sweep incomplete >&4
    } | tr '\n\0' '?\n'
}

# sweep_project: not what git packs away, and not the project's own env files with the copies that a failure restores.
sweep_project() {
    set --
    for entry in config FETCH_HEAD packed-refs logs hooks; do
        if [ -e ".git/$entry" ] && [ ! -L ".git/$entry" ] && [ ! -L .git ]; then set -- "$@" "./.git/$entry"; fi
    done
    # What is named isn't left out.
    holding -r -D skip --exclude-dir=.git -f - -- . "$@" | while read -r file; do
        case $file in
        ./.env | ./.slipway/served/* | ./.slipway/judged_env | ./infra/.env | ./infra/.env.prod) ;;
        *) tell leak "$dir/${file#./}" ;;
        esac
    done
    while read -r mode file; do
        case $mode in '' | 600 | 400) ;; *) tell leak "$dir/$file, which others may read" ;; esac
    done <<END
$(stat -Lc '%a %n' .env .slipway/served/env .slipway/judged_env infra/.env infra/.env.prod 2>/dev/null || :)
END
}

# sweep_folders FOLDERS: those that there are.
sweep_folders() {
    for place in "$@"; do
        if [ -e "$place" ] && [ ! -L "$place" ]; then holding -r -D skip -f - -- "$place"; fi
    done | while read -r file; do tell leak "$file"; done
}
