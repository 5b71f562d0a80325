#!/usr/bin/env bash
# A harvest from an OpenAI-compatible server that others wrote (llmock of PyPI), which answers a fifth of the requests with
# 429, 500 and 503; the first launch is ended after a second. By hand: tests/oracles/harvest.sh BUILD/bin/harvest_child
set -euo pipefail
child=$(realpath "$1")
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q llmock==0.2.2
python3 -c 'for i in range(200): print("{\"problem\": \"question %d\"}" % i)' > "$folder/prompts.jsonl"
timeout 300 "$folder/venv/bin/llmock" serve -p 18431 --error-rate 429=0.1 --error-rate 500=0.05 --error-rate 503=0.05 \
  --log-level warning > "$folder/server.log" 2>&1 &
server=$!
for _ in $(seq 120); do
  python3 -c 'import socket; socket.create_connection(("127.0.0.1", 18431))' 2>/dev/null && break
  sleep 0.5
done
timeout -s KILL 1 "$child" http://127.0.0.1:18431/v1 "$folder" || true
timeout 200 "$child" http://127.0.0.1:18431/v1 "$folder"
python3 - "$folder/out/messages.jsonl" <<'PY'
import json, sys
asked = [json.loads(line)["messages"][0]["content"] for line in open(sys.argv[1])]
assert sorted(asked) == sorted(f"question {i}" for i in range(200)), len(asked)
PY
echo "200 prompts, each answered once; $(grep -c '"release"' "$folder/out/.harvest/log") refusals asked again, $(grep -c '"lost"' "$folder/out/.harvest/log" || true) lost"
