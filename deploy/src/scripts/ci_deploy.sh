# Parameters: registry repository own_images rehearsed bots checks patience hidden; after project_files.sh, room.sh,
# front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh, docker_login.sh, service_report.sh, stability_gate.sh,
# start_outcome.sh, sockets.sh, rehearse.sh, bots_first.sh, door_slots.sh, door_site.sh, hosts.sh, one_shots.sh, next_release.sh,
# switch.sh, save_release.sh, restore_files.sh, take_files.sh, judged.sh, forced_command.sh. The one thing that the
# project's deploy key may do: pull this project's images, rehearse and start them, the bots first, and go back to the
# release before where they fail. CI tags every build `latest`, or after its branch; from here on that tag is what the
# project runs, until Slipway deploys a commit.

# tell KEY VALUE: the parts above tell a worker; here, the job's log. What has failed goes into .slipway/reason: a code
# and a sentence.
phase='' wanted_commit=revision
tell() {
    case "$1 $2" in
    'rehearsed '*) echo "slipway: $2 is tried beside the release that serves" ;;
    'phase '*) phase=$2 ;;
    'verdict crash-loop '*) reason crash-loop "service ${2#* } exits" ;;
    'verdict unended '*) reason unhealthy "service ${2#* } hasn't ended in time, and others wait until it has" ;;
    'verdict unhealthy '*) reason unhealthy "the health check of service ${2#* } doesn't pass" ;;
    'verdict gone '*) reason unhealthy "the container of service ${2#* } was removed while it was watched" ;;
    'verdict deaf '*) reason not-listening "service ${2#* } doesn't listen on its port" ;;
    'answered_as '*) answered_as=$2 ;;
    'verdict another '*) reason wrong-version "service ${2#* } answers as commit $answered_as, and its image is of another" ;;
    'verdict ill '*) reason not-healthy "service ${2#* } doesn't answer as it must" ;;
    'verdict wait '*)
        if [ "$phase" = failed ]; then
            reason start-failed "docker compose couldn't start the new images"
        else
            reason unhealthy "service ${2#* } didn't become stable in time"
        fi
        ;;
    'verdict '*) reason start-failed "docker compose couldn't start the new images" ;;
    esac
}
reason() { printf '%s %s\n' "$1" "$2" >.slipway/reason; }

# docker ARGUMENTS: docker, whose logs show no secret of .env: nobody masks it in the job's log.
docker() {
    if [ "$1" = logs ]; then
        command docker "$@" 2>&1 | without_secrets
    else
        command docker "$@"
    fi
}
without_secrets() {
    touch .slipway/sealed
    awk -v "hidden=$hidden" '
        FILENAME == ".slipway/sealed" { sealed[$0] = 1; next }
        FILENAME == ".env" {
            sub(/^# before /, "")
            name = substr($0, 1, index($0, "=") - 1)
            if (!(name in sealed) && name !~ hidden) next
            value = substr($0, index($0, "=") + 1)
            gsub(/^"|"$/, "", value)
            gsub(/\\\\/, "\001", value)
            gsub(/\\[nr]/, "\n", value)
            gsub(/\\/, "", value)
            gsub(/\001/, "\\\\", value)
            # Each line of a longer text for itself, the longest first: one may be the beginning of another.
            parts = split(value, part, "\n")
            for (i = 1; i <= parts; i++) {
                if (length(part[i]) < 6) continue
                for (at = ++count; at > 1 && length(values[at - 1]) < length(part[i]); at--) values[at] = values[at - 1]
                values[at] = part[i]
            }
            next
        }
        {
            for (i = 1; i <= count; i++) {
                clean = ""
                while (at = index($0, values[i])) {
                    clean = clean substr($0, 1, at - 1) "[redacted]"
                    $0 = substr($0, at + length(values[i]))
                }
                $0 = clean $0
            }
            print
        }' .slipway/sealed .env -
}

# pull_latest: the project's own images under the tags that CI moves; .env names them from then on. A database under
# another name for its image would be made anew.
pull_latest() {
    own=$(printf '%s' "$own_images" | sed 's/[.]/\\./g')
    sed -e "s|^\([A-Z0-9_]*_IMAGE=\"${own}[^\"@]*\):sha-[0-9a-f]\{7\}\(@sha256:[0-9a-f]\{64\}\)\{0,1\}\"\$|\1:latest\"|" \
        -e "s|^\([A-Z0-9_]*_IMAGE=\"${own}[^\"@]*\)@sha256:[0-9a-f]\{64\}\"\$|\1\"|" .env >.slipway/put || return 1
    env_file=.slipway/put
    model=
    # Nobody's variable of that name, which would be exported.
    unset auth
    auth=$(cat "$login_file" 2>/dev/null) || auth=
    docker_login
    pulled=yes
    pull_modules || pulled=no
    docker_logout
    env_file=.env
    if [ "$pulled" = no ]; then
        reason pull-failed "the images can't be pulled"
        return 1
    fi
    sync .slipway/put && mv -fT .slipway/put .env
    model=
}

# still_judged: what is started is what was judged, whatever has become of the files meanwhile.
still_judged() { is_judged || { reason compose-not-allowed "$unjudged" && return 1; }; }

# begin_new: tries what can be tried beside what serves.
begin_new() {
    see
    ready_door
    finish_switches
    choose_next && run_firsts && rehearse && try_next
}

# start_new: starts the new images, and judges what comes of it.
start_new() {
    up=done
    before=$(containers | sort)
    start_others || up=failed
    see
    seen_of
    without_old $ids
    if (judge_start "$before" "$(containers | sort)" "$ids" && all_answer); then
        switch
    else
        forget_next
        return 1
    fi
}

# go_back: the release that was saved serves again, or still.
go_back() {
    if [ -n "${next:-}" ]; then forget_next; fi
    restore_files
    up=done
    see
    finish_switches
    if [ "$(running)" != "$(cat .slipway/served/running)" ]; then
        require_judged
        start_again || return 1
    fi
    rm -rf .slipway/served
}

ci_job() {
    enter
    trap docker_logout EXIT
    trap 'exit 1' TERM HUP INT
    see
    remove_rehearsals
    end_replacements
    rm -f .slipway/reason
    [ -f .slipway/judged ] || die compose-not-allowed "what this project asks for was never judged: deploy a commit"
    require_judged
    save_release "$(repo_git rev-parse HEAD)" ci
    if [ -f .slipway/stopped ]; then
        # Somebody has stopped the project: the new version is ready for when it's started again.
        if pull_latest && still_judged && project_compose create --no-build --remove-orphans; then
            rm -rf .slipway/served
            return 0
        fi
        restore_files
        if is_judged; then project_compose create --no-build --remove-orphans; fi
        rm -rf .slipway/served
        die start-failed "the new images can't be pulled, or no containers be made of them: the release before is ready to be started, as it was"
    fi
    # Whatever ends that early, the release before is put back.
    if (die() { reason "$@"; exit 1; } && pull_latest && still_judged && begin_new && replace_bots && prove_next && start_new); then
        rm -rf .slipway/served
        project_ps --format 'slipway: {{.Label "com.docker.compose.service"}} runs {{.Image}}, {{.Status}}'
        return 0
    fi
    read -r code why <.slipway/reason || code=start-failed why="the new images can't be started"
    rm -f .slipway/reason
    if go_back; then
        die "$code" "$why: the release before serves on; mend what the lines above tell, and push again"
    fi
    die "$code" "$why, and the release before, which was put back, doesn't become stable: look at the project's containers on the server"
}

# relay: what the job prints, also when nobody reads it any more: a runner that is gone must not leave it halfway.
relay() {
    trap '' PIPE
    while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line" || :; done 2>/dev/null
}

exec 4>&1
code=$({
    {
        set +e
        (
            set -e
            ci_job
        ) 2>&1 3>&- 4>&-
        echo $? >&3
    } | relay >&4
} 3>&1)
exit "$code"
