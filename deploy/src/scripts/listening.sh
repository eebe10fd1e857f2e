# Parameters: port. Whether anything on the server itself listens there.
if [ -n "$(ss -Hltn "sport = :$port" | head -n 1)" ]; then tell listening yes; fi
