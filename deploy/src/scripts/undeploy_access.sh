# After project_files.sh, lock.sh, authorized_keys.sh, undeploy_enter.sh. From here on CI can't start the project any
# more.
enter_ours
lock_keys
if [ -n "$(key_line)" ]; then
    replace_key ""
    tell changed key
fi
if [ -e .slipway/ci-deploy ]; then
    rm -f .slipway/ci-deploy
    tell changed command
fi
