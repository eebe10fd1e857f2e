# Python with what a producer's or consumer's side needs: AMQP, sealed boxes, data models; and a mail server.
set -euo pipefail
/usr/bin/python3 -m venv "$1"
"$1/bin/python" -m pip --quiet install pika pynacl pydantic aiosmtpd
# It moves to its place after it is made; its scripts name their interpreter by absolute path.
find "$1/bin" -type f -exec sed -i "s#$1#$2#g" {} + 
sed -i "s#$1#$2#g" "$1/pyvenv.cfg"
