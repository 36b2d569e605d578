#!/usr/bin/env bash
# Runs the bucket tests against Azurite, Microsoft's emulator of Azure Blob Storage: a second
# protocol next to S3. Needs node 20 and npm; installs Azurite below the target folder the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "npm and node are not here; the Azurite tests are left out" >&2
    exit 0
fi

version=3.35.0
home="${CARGO_TARGET_DIR:-target}/azurite"
mkdir -p "$home"
home="$(cd "$home" && pwd)"
if [ ! -x "$home/node_modules/.bin/azurite-blob" ]; then
    npm install --silent --no-audit --no-fund --prefix "$home" "azurite@$version"
fi

port="${AZURITE_PORT:-10000}"
data="$(mktemp -d)"
"$home/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$port" \
    --skipApiVersionCheck --silent --location "$data" >"$data/log" 2>&1 &
azurite=$!
trap 'kill "$azurite" 2>/dev/null || true; wait "$azurite" 2>/dev/null || true; rm -rf "$data"' EXIT

# The emulator's account and key are the same everywhere and public.
export SILTSTONE_AZURITE="http://127.0.0.1:$port/devstoreaccount1"
node - <<'NODE'
const crypto = require("crypto");
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const container = "siltstone";

async function create() {
    const date = new Date().toUTCString();
    const signed = [
        "PUT", "", "", "", "", "", "", "", "", "", "", "",
        `x-ms-date:${date}`, "x-ms-version:2021-08-06",
        `/${account}/${account}/${container}`, "restype:container",
    ].join("\n");
    const hmac = crypto.createHmac("sha256", Buffer.from(key, "base64"));
    const signature = hmac.update(signed, "utf8").digest("base64");
    const answer = await fetch(`${process.env.SILTSTONE_AZURITE}/${container}?restype=container`, {
        method: "PUT",
        headers: {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            authorization: `SharedKey ${account}:${signature}`,
        },
    });
    if (answer.status !== 201) throw new Error(`status ${answer.status}: ${await answer.text()}`);
}

async function main() {
    const deadline = Date.now() + 30000;
    for (;;) {
        try {
            return await create();
        } catch (error) {
            if (Date.now() > deadline) throw error;
            await new Promise((wake) => setTimeout(wake, 200));
        }
    }
}
main().catch((error) => { console.error(`Azurite did not come up: ${error}`); process.exit(1); });
NODE

cargo test -p siltstone-s3-test-server --test azurite -- --nocapture "$@"
