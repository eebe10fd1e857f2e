# The least that a deployment can be: one script over one SSH connection, without a look at what is there, without a way
# back, without a record. `tests/bench deploy` puts the values before it: slug, url, commit, env, registry, user,
# password, port, and gate, with which it waits until all has been stable for 5 s, as Slipway does.
set -euo pipefail
: "${slug:?}" "${url:?}" "${commit:?}" "${env:?}" "${registry:?}" "${user:?}" "${password:?}" "${port:?}" "${gate:?}"
dir=/opt/services/$slug
mkdir -p "$dir"
cd "$dir"
[ -d .git ] || git init --quiet
git fetch --quiet --depth 1 "$url" "$commit"
git checkout --quiet --force FETCH_HEAD
(umask 077 && printf '%s' "$env" >.env)
printf '%s' "$password" | docker login "$registry" --username "$user" --password-stdin >/dev/null 2>&1
cd infra
compose() { docker compose --env-file ../.env -f compose.base.yml -f compose.prod.yml "$@"; }
compose pull --quiet
compose up --detach --remove-orphans
docker image prune --force >/dev/null
ufw allow "$port/tcp" >/dev/null
[ "$gate" = yes ] || exit 0

# stable: every container runs, is healthy where it can say so, was never restarted, and was started 5 s ago.
stable() {
  local now started state
  now=$(date +%s)
  while read -r state health restarts started; do
    [ "$state $restarts" = 'running 0' ] || return 1
    case $health in healthy | none) ;; *) return 1 ;; esac
    [ $((now - $(date --date "$started" +%s))) -ge 5 ] || return 1
  done < <(compose ps --all --quiet | xargs docker inspect --format \
    '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.RestartCount}} {{.State.StartedAt}}')
}
until stable; do sleep 0.25; done
curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"
