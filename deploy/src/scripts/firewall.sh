# Parameters: ports; after project.sh. Our rules carry the comment slipway:<slug>; nobody else's are touched. Rules are kept right
# in an inactive ufw too: they count once somebody switches it on.
enter
if ! command -v ufw >/dev/null 2>&1; then
    tell ufw absent
    exit 0
fi
tell ufw "$(ufw status | sed -n 's/^Status: //p')"
ours() { ufw show added | sed -n "s|^ufw allow \([0-9]*\)/tcp comment 'slipway:$slug'\$|\1|p"; }
have=$(ours)
for port in $ports; do
    case "
$have
" in
    *"
$port
"*) continue ;;
    esac
    ufw allow "$port/tcp" comment "slipway:$slug" >&2
    tell added "$port"
done
for port in $have; do
    case " $ports " in *" $port "*) continue ;; esac
    ufw delete allow "$port/tcp" >&2
    tell removed "$port"
done
