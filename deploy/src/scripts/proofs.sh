# After project_files.sh, containers.sh. Digests by which a later attempt sees that a stage is still done.

# env_proof: a digest of what stage env leaves behind. It is told and kept elsewhere, so that it's salted: nobody shall
# guess a password with it.
env_proof() {
    [ -s .slipway/salt ] || head -c 32 /dev/urandom | base64 -w 0 | put .slipway/salt 600
    IFS= read -r salt <.slipway/salt || :
    {
        printf '%s' "$salt"
        sha256sum .env "$override"
        stat -c %a .env
        readlink infra/.env || :
        [ ! -f infra/.env.prod ] || sha256sum infra/.env.prod
    } 2>/dev/null | sha256sum | {
        read -r digest _
        echo "$digest"
    }
}

# release_proof: a digest of the containers and their starts.
release_proof() {
    docker inspect --format '{{.Id}} {{.RestartCount}} {{.State.StartedAt}}' $(containers) | digest_starts
}
digest_starts() {
    sort | sha256sum | {
        read -r digest _
        echo "$digest"
    }
}
