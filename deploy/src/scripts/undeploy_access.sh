# After project.sh and undeploy.sh. From here on CI can't start the project any more.
enter_ours
lock_keys
if grep -q " slipway:$slug\$" "$keys" 2>/dev/null; then
    grep -v " slipway:$slug\$" "$keys" >"$keys.slipway" || :
    chmod --reference="$keys" "$keys.slipway"
    chown --reference="$keys" "$keys.slipway"
    sync "$keys.slipway"
    mv -fT "$keys.slipway" "$keys"
    tell changed key
fi
if [ -e .slipway/ci-deploy ]; then
    rm -f .slipway/ci-deploy
    tell changed command
fi
