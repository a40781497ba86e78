#!/usr/bin/env bash
# What `bench sets` measures, for our controllers and for kube-controller-manager, on the same machine in the same run:
#
#   ours       our controllers, a process of their own, on our API server
#   ours-ref   our controllers on kube-apiserver and etcd
#   kcm        kube-controller-manager with its default limits on kube-apiserver and etcd
#   kcm-raised the same with its limits raised
#
# Only the controllers of StatefulSets and ServiceAccounts run, and no scheduler: a model node takes every pod at once.
# Needs curl, openssl, Debian's etcd-server, and kube-apiserver and kube-controller-manager in KUBE_BIN.
# Usage: bench/controllers.sh "ours ours-ref kcm kcm-raised" [words for `bench sets` …]
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-ours ours-ref kcm kcm-raised}
shift || true
steadfast=${STEADFAST_BIN:-target/release/steadfast}
bench=${BENCH_BIN:-target/release/bench}
kube=${KUBE_BIN:-/usr/local/bin}
controllers=statefulset,serviceaccount
dir=$(mktemp -d /var/tmp/sf-bench-XXXXXX)
pids=()
end() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; pids=(); }
trap 'end; rm -rf "$dir"' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# run NAME COMMAND…: in the background, its log in $dir/NAME.log, its pid in $pid.
run() { local name=$1; shift; "$@" >"$dir/$name.log" 2>&1 & pid=$!; pids+=("$pid"); }

until_ok() { until curl --silent --insecure --fail --output /dev/null --max-time 1 "$@"; do sleep 0.1; done; }

our_server() {
    local port; port=$(free_port)
    run server "$steadfast" up --no-node --controllers= --data-dir "$dir/data" --listen "127.0.0.1:$port"
    server=$pid
    until_ok "https://127.0.0.1:$port/readyz"
    kubeconfig=$dir/data/admin.kubeconfig
}

reference_server() {
    local clients peers port
    clients=$(free_port); peers=$(free_port); port=$(free_port)
    rm -rf "$dir/etcd"
    run etcd etcd --data-dir "$dir/etcd" --listen-client-urls "http://127.0.0.1:$clients" \
        --advertise-client-urls "http://127.0.0.1:$clients" --listen-peer-urls "http://127.0.0.1:$peers" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peers" --initial-cluster "default=http://127.0.0.1:$peers"
    [ -f "$dir/sa.key" ] || openssl genrsa -out "$dir/sa.key" 2048 2>/dev/null
    echo 'bench,admin,admin,system:masters' >"$dir/tokens"
    run server "$kube/kube-apiserver" --etcd-servers="http://127.0.0.1:$clients" --secure-port="$port" \
        --bind-address=127.0.0.1 --cert-dir="$dir/certs" --service-cluster-ip-range=10.97.0.0/16 \
        --token-auth-file="$dir/tokens" --authorization-mode=AlwaysAllow --disable-admission-plugins=ServiceAccount \
        --service-account-key-file="$dir/sa.key" \
        --service-account-signing-key-file="$dir/sa.key" --service-account-issuer=https://bench \
        --max-requests-inflight=3000 --max-mutating-requests-inflight=1000
    server=$pid
    until_ok -H "Authorization: Bearer bench" "https://127.0.0.1:$port/readyz"
    kubeconfig=$dir/reference.kubeconfig
    cat >"$kubeconfig" <<KUBECONFIG
apiVersion: v1
kind: Config
current-context: r
clusters: [{name: r, cluster: {server: "https://127.0.0.1:$port", certificate-authority: $dir/certs/apiserver.crt}}]
users: [{name: r, user: {token: bench}}]
contexts: [{name: r, context: {cluster: r, user: r}}]
KUBECONFIG
}

our_controllers() {
    run controllers "$steadfast" controllers --kubeconfig "$kubeconfig" --controllers="$controllers" \
        --leader-elect=false --listen "127.0.0.1:$(free_port)" --log warn
}

their_controllers() { # limits
    # Until 1.23 there was a port without TLS, too.
    local plain=()
    if [[ $("$kube/kube-controller-manager" --help 2>&1) == *"--port int"* ]]; then plain=(--port=0); fi
    run controllers "$kube/kube-controller-manager" --kubeconfig "$kubeconfig" --controllers="$controllers" \
        --leader-elect=false --secure-port="$(free_port)" "${plain[@]}" --cert-dir="$dir/kcm" "$@"
}

for one in $what; do
    echo "== $one"
    case $one in
    ours) our_server; our_controllers ;;
    ours-ref) reference_server; our_controllers ;;
    kcm) reference_server; their_controllers ;;
    kcm-raised) reference_server; their_controllers --kube-api-qps=5000 --kube-api-burst=10000 --concurrent-statefulset-syncs=20 ;;
    *) echo "what is $one?" >&2; exit 1 ;;
    esac
    "$bench" sets --kubeconfig "$kubeconfig" --proc "controllers=$pid" --proc "server=$server" "$@" || tail -n 5 "$dir"/*.log
    end
    rm -rf "$dir/data"
done
