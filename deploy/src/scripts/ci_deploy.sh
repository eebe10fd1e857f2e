# Parameters: registry; after project_files.sh, compose_call.sh, containers.sh, lock.sh, docker_login.sh,
# take_files.sh, forced_command.sh. The one thing that the project's deploy key may do: pull this project's images and start them. CI
# tags every build `latest`, or after its branch; from here on that tag is what the project runs, until Slipway deploys
# a commit.
enter
trap docker_logout EXIT
trap 'exit 1' TERM HUP INT
docker_login
sed -e 's/^\([A-Z0-9_]*_IMAGE="[^"@]*\):sha-[0-9a-f]\{7\}\(@sha256:[0-9a-f]\{64\}\)\{0,1\}"$/\1:latest"/' \
    -e 's/^\([A-Z0-9_]*_IMAGE="[^"@]*\)@sha256:[0-9a-f]\{64\}"$/\1"/' .env >.slipway/put
chmod 600 .slipway/put
env_file=.slipway/put
pull_modules
sync .slipway/put
mv -fT .slipway/put .env
env_file=.env
if [ -f .slipway/stopped ]; then
    # Somebody has stopped the project: the new version is ready for when it's started again.
    project_compose create --no-build --remove-orphans
else
    project_compose up -d --no-build --remove-orphans
fi
project_ps --format 'slipway: {{.Label "com.docker.compose.service"}} runs {{.Image}}, {{.Status}}'
