# Parameters: paths writable judged; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh,
# lock.sh, git.sh, judged.sh. Tells which of the paths lead elsewhere, and whether compose reads a file where a container
# may write; changes nothing.
enter
printf '%s' "$paths" | base64 -d | bad_paths | while read -r what path; do tell "$what" "$path"; done
unread=$(printf '%s' "$writable" | base64 -d)
if [ -n "$unread" ]; then
    if ! digest=$(model_digest .env 2>/dev/null) || [ "$digest" != "$judged" ]; then tell read yes; fi
fi
