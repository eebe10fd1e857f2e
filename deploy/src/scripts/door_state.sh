# Parameters: domain; after project_files.sh, front_door.sh. Tells how the front door is, and what it has said last of that
# domain's certificate, in one line of JSON.
tell_door
said=$(docker logs --since 24h --tail 2000 "$front_container" 2>&1 | grep -F -e "\"$domain\"" -e "[$domain]" | tail -n 1 | head -c 8000)
tell said "$said"
