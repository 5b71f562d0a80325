#!/usr/bin/env bash
# `fourmi ledger report MODEL --format spdx` as SPDX's own library reads it (spdx-python-model of PyPI, which knows every class' members, types
# and counts), and by the published JSON Schema, where its file is given (spdx-json-schema.json of SPDX 3.0.1).
# By hand: tests/oracles/spdx.sh BUILD/bin/fourmi MODEL [SCHEMA]
set -euo pipefail
program=$(realpath "$1")
model=$2
schema=${3:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q spdx-python-model==0.0.6 jsonschema==4.26.0
"$program" ledger report "$model" --format spdx > "$folder/report.json"
"$program" ledger report "$model" --format spdx | cmp - "$folder/report.json"
"$folder/venv/bin/python" - "$folder/report.json" "$schema" <<'PY'
import json, sys
from spdx_python_model import v3_0_1 as spdx

report = sys.argv[1]
objects = spdx.SHACLObjectSet()
with open(report, "rb") as f:
    spdx.JSONLDDeserializer().read(f, objects)
missing = sorted(str(i) for i in objects.link() if "NoAssertionLicense" not in str(i))
assert not missing, missing
# Writing again asks each element for what it must have, and leaves nothing out that was read.
class Sink:
    data = b""
    def write(self, data):
        self.data += data
sink = Sink()
spdx.JSONLDSerializer().write(objects, sink, force_at_graph=True)
again, first = json.loads(sink.data), json.load(open(report))
ids = lambda graph: sorted(e.get("spdxId", e["type"]) for e in graph["@graph"])
assert ids(again) == ids(first)
members = lambda graph: sorted(key for e in graph["@graph"] for key in e if key != "@id")
assert members(again) == members(first)
print(len(first["@graph"]), "elements read by SPDX's library")
if sys.argv[2]:
    import jsonschema
    errors = list(jsonschema.Draft202012Validator(json.load(open(sys.argv[2]))).iter_errors(first))
    for e in errors[:5]:
        print(list(e.absolute_path), e.message[:300])
    assert not errors, len(errors)
    print("valid by the schema")
PY
