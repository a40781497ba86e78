#!/usr/bin/env bash
# How long `steadfast up` takes until /readyz says ok, and how much memory the idle daemon holds.
#
# Measured: the release build with everything on (API, store, controllers, scheduler, node, runtime, DNS), its files in
# the page cache, first with an empty store, then with 1,000 stored objects. As a measure of the machine, Debian's etcd is
# started in the same run until its /health says so; every time is also given as a ratio to that.
#
# Needs root, curl and etcd-server (apt-get install curl etcd-server). Usage: bench/startup.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-10}
steadfast=${STEADFAST_BIN:-target/release/steadfast}
port=17443
dir=$(mktemp -d /var/tmp/sf-bench-XXXXXX)
data=$dir/data
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; "$steadfast" reset --yes --data-dir "$data" >/dev/null || true; rm -rf "$dir"' EXIT

now_ms() { date +%s%N | sed 's/......$//'; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }

# until_ok URL: returns when URL answers with success.
until_ok() { until curl --silent --insecure --fail --output /dev/null --max-time 1 "$1"; do :; done; }

start_steadfast() { # prints the milliseconds until ready; leaves the daemon running as $pid
    local begun; begun=$(now_ms)
    "$steadfast" up --data-dir "$data" --listen 127.0.0.1:$port >"$dir/log" 2>&1 &
    pid=$!
    until_ok https://127.0.0.1:$port/readyz
    took=$(($(now_ms) - begun))
}

stop() { kill -INT "$pid"; wait "$pid" || true; pid=; }

measure_steadfast() { # LABEL
    local n
    : >"$dir/times"
    start_steadfast; stop
    for n in $(seq "$runs"); do start_steadfast; echo "$took" >>"$dir/times"; stop; done
    took=$(median <"$dir/times")
    echo "$1: up to /readyz ok in $took ms (median of $runs; all: $(tr '\n' ' ' <"$dir/times"))"
}

measure_etcd() {
    local n begun
    : >"$dir/times"
    for n in $(seq "$runs"); do
        rm -rf "$dir/etcd"
        begun=$(now_ms)
        etcd --data-dir "$dir/etcd" --listen-client-urls http://127.0.0.1:17379 --advertise-client-urls http://127.0.0.1:17379 \
            --listen-peer-urls http://127.0.0.1:17380 --initial-advertise-peer-urls http://127.0.0.1:17380 \
            --initial-cluster default=http://127.0.0.1:17380 >"$dir/etcd.log" 2>&1 &
        pid=$!
        until_ok http://127.0.0.1:17379/health
        echo $(($(now_ms) - begun)) >>"$dir/times"
        kill "$pid"; wait "$pid" 2>/dev/null || true; pid=
    done
    etcd_ms=$(median <"$dir/times")
    echo "etcd $(etcd --version | awk 'NR==1 {print $3}'): start to /health ok in $etcd_ms ms (median of $runs)"
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }

rss_mib() { awk '/VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$pid/status"; }

measure_etcd
measure_steadfast "empty store"
echo "  $(ratio "$took" "$etcd_ms") x etcd"
start_steadfast
for n in $(seq 1000); do
    printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bench-%s, namespace: default}\ndata: {k: "%01000d"}\n' "$n" "$n"
done >"$dir/objects.yaml"
KUBECONFIG=$data/admin.kubeconfig kubectl create -f "$dir/objects.yaml" >/dev/null
stop
measure_steadfast "1,000 objects of 1 KiB"
echo "  $(ratio "$took" "$etcd_ms") x etcd"
start_steadfast
sleep 30 # Idle is a state, not an event: what start-up needed has been given back by then.
echo "resident memory, idle for 30 s with 1,000 objects: $(rss_mib) MiB"
stop
