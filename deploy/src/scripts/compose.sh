# Parameters: judged paths registry auth policy rehearsed patience limit ports until? putting_back?; after project_files.sh, room.sh,
# front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh, docker_login.sh, proofs.sh, service_report.sh,
# stability_gate.sh, start_outcome.sh, sockets.sh, rehearse.sh, bots_first.sh, door_slots.sh, door_site.sh, hosts.sh,
# one_shots.sh, next_release.sh, switch.sh, replaced.sh, judged.sh, ufw_rules.sh, ufw_routes.sh, reach.sh. Pulls, proves what can be
# proven beside what serves, starts, waits until everything is stable, and switches.
enter
see
remove_rehearsals
cleanup() {
    docker_logout
    if [ -n "${trial:-}" ]; then docker rm -fv "$trial" >/dev/null 2>&1 || :; fi
    [ -z "${watchers:-}" ] || kill $watchers 2>/dev/null || :
    await_removals
}
# What was judged elsewhere is what is started here.
put .slipway/judged_env 600 <.env
{
    printf '%s %s %s %s\n' "$judged" "$(compose_version)" "$(repo_git rev-parse HEAD)" "$(override_digest)"
    printf '%s' "$paths" | base64 -d
} | put .slipway/judged 600
require_judged
fetch_door >/dev/null 2>&1 9>&- &
fetching=$!
docker_login

seen_of
before=$(sorted $ids)
seen_before=$present

if ! pull_images "$policy" $rehearsed $bots >&2; then
    tell phase pull
    tell_reach "${registry%%:*}"
    exit 4
fi
docker_logout
wait "$fetching" || :
if [ "${until:-}" = pulled ]; then exit 0; fi
ready_door
finish_switches
choose_next || exit 4
run_firsts && rehearse && try_next || exit 4
rm -f .slipway/stopped
end_replacements
if ! replace_bots; then
    forget_next
    exit 4
fi
prove_next || exit 4
watch_gaps
up=done
start_others >&2 || up=failed
open_for_authority
# What stage firewall needs to know, while the project is waited for. Without it, that stage looks for itself.
mark firewall
{
    look_at_rules
    # Those of networks that come only now.
    if judges_docker; then tell rule_differs routes; fi
} 2>/dev/null 9>&- &
rules=$!
see
seen_of
after=$(sorted $ids)
without_old $ids
judge_start "$before" "$after" "$ids"
switch
printf '%s' "$checks" | put .slipway/checks 600
tell_replaced "$seen_before"
tell_published "$sample"
tell_doors
tell_door
# What the gate has seen last, but for what is no service any more and went with the switch.
tell proof "$(
    while read -r _ _ _ restarts _ started _ _ id _; do
        case " ${orphans:-}" in *" $id "*) ;; *) printf '%s %s %s\n' "$id" "$restarts" "$started" ;; esac
    done <<END | digest_starts
$sample
END
)"
wait "$rules" || :
