# Parameters: commit env_was release_was; after project_files.sh, room.sh, containers.sh, lock.sh, git.sh, proofs.sh,
# service_report.sh, stability_gate.sh. Tells which of the stages that the journal calls done still are, up to the
# first that isn't; changes nothing.
[ -d "$dir/.git" ] || exit 0
enter
[ "$(repo_git rev-parse -q --verify HEAD)" = "$commit" ] && repo_git diff-index --quiet HEAD -- || exit 0
found=clone
if [ -n "$env_was" ] && [ "$(env_proof)" = "$env_was" ]; then
    found="$found env"
    patience=0
    if [ -n "$release_was" ] && [ "$(release_proof)" = "$release_was" ]; then
        gate
        if [ "$answer" = ok ]; then found="$found compose"; fi
    fi
fi
# Clone saves the previous release. Without that, only a release that is up completely may be built on.
if [ -d .slipway/served ] || [ "$found" = "clone env compose" ]; then tell "done" "$found"; fi
