#!/usr/bin/env bash
# DNS beside a reference in the same run: queries per second and the 99th percentile of latency on one core, of
# `steadfast dns` and of Debian's unbound answering the same names from its cache, and how long a change takes to show.
#
#   bench/dns.sh [STEADFAST] [ROUNDS]
#
# Needs root, dnsperf, unbound, bind9-dnsutils and kubectl. Servers run on the last core, the load on the first; both
# servers are asked in turns, so that whatever else the machine does meets both.
set -euo pipefail
STEADFAST=${1:-target/release/steadfast} ROUNDS=${2:-3}
SERVICES=1000 SECONDS_EACH=5
SERVER_CPU=$(($(nproc) - 1)) LOAD_CPU=0
IP=127.211.$((RANDOM % 250 + 1)).$((RANDOM % 250 + 1))
DIR=$(mktemp -d)
PIDS=()
finish() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$DIR"
}
trap finish EXIT

"$STEADFAST" up --no-node --data-dir "$DIR/data" --listen $IP:6443 >"$DIR/up.log" 2>&1 &
PIDS+=($!)
until grep -q ^ready "$DIR/up.log"; do sleep 0.1; done
export KUBECONFIG=$DIR/data/admin.kubeconfig
for i in $(seq $SERVICES); do
  printf -- '---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d}\nspec: {ports: [{name: http, port: 80}]}\n' "$i"
done | kubectl create -f - >/dev/null

taskset -c $SERVER_CPU "$STEADFAST" dns --kubeconfig "$KUBECONFIG" --listen $IP:1053 --metrics-listen $IP:9153 \
  --dns-upstream none --log warn &
PIDS+=($!)
until [ "$(dig +short @$IP -p 1053 s$SERVICES.default.svc.cluster.local)" ]; do sleep 0.1; done

cat >"$DIR/unbound.conf" <<C
server:
  username: ""
  chroot: ""
  directory: "$DIR"
  pidfile: "$DIR/unbound.pid"
  use-syslog: no
  interface: $IP@2053
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  cache-min-ttl: 3600
  local-zone: "cluster.local." nodefault
stub-zone:
  name: "cluster.local."
  stub-addr: $IP@1053
remote-control:
  control-enable: no
C
taskset -c $SERVER_CPU unbound -d -c "$DIR/unbound.conf" 2>"$DIR/unbound.log" &
PIDS+=($!)
for i in $(seq $SERVICES); do echo "s$i.default.svc.cluster.local A"; done >"$DIR/names"

load() { # PORT, then options of dnsperf
  taskset -c $LOAD_CPU dnsperf -s $IP -p "$@" -d "$DIR/names" -c 8 -l $SECONDS_EACH 2>/dev/null
}
rate() { load "$1" -q 100 | awk '/Queries per second/ {print int($4)} /Queries lost/ {lost=$3} END {if (lost+0 > 100) print "lost " lost > "/dev/stderr"}'; }
p99() { load "$1" -Q 10000 -v | awk '/^> NOERROR/ {print $NF * 1000000}' | sort -n | awk '{v[NR]=$1} END {print int(v[int(NR*0.99)])}'; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }

load 2053 -q 10 >/dev/null # fills the cache
for round in $(seq "$ROUNDS"); do
  rate 1053 >>"$DIR/ours"
  rate 2053 >>"$DIR/theirs"
  p99 1053 >>"$DIR/ours99"
  p99 2053 >>"$DIR/theirs99"
  echo "round $round: steadfast $(tail -n1 "$DIR/ours") q/s, p99 $(tail -n1 "$DIR/ours99") us;" \
    "unbound $(tail -n1 "$DIR/theirs") q/s, p99 $(tail -n1 "$DIR/theirs99") us"
done
ours=$(median <"$DIR/ours") theirs=$(median <"$DIR/theirs")
echo "median: steadfast $ours q/s, p99 $(median <"$DIR/ours99") us; unbound $theirs q/s, p99 $(median <"$DIR/theirs99") us;" \
  "$(awk "BEGIN {printf \"%.2f\", $ours / $theirs}") x"

# How long after the API server has answered is a new address in DNS?
cat >"$DIR/visible.py" <<'P'
import json, socket, ssl, subprocess, sys, time, http.client, base64
ip, config = sys.argv[1], json.loads(subprocess.check_output(["kubectl", "config", "view", "--raw", "-o", "json"]))
user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
context.check_hostname = False
files = []
for key in ("client-certificate-data", "client-key-data"):
    files.append(f"{sys.argv[2]}/{key}")
    open(files[-1], "wb").write(base64.b64decode(user[key]))
context.load_cert_chain(*files)
api = http.client.HTTPSConnection(ip, 6443, context=context)
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.connect((ip, 1053))
times = []
for i in range(200):
    name = f"fresh{i}"
    labels = [name, "default", "svc", "cluster", "local"]
    question = b"".join(bytes([len(l)]) + l.encode() for l in labels) + b"\0\0\1\0\1"
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    api.request("POST", "/api/v1/namespaces/default/services", json.dumps(body), {"content-type": "application/json"})
    assert api.getresponse().read() and True
    start = time.perf_counter()
    while True:
        dns.send(i.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + question)
        if dns.recv(1500)[7]:
            break
    times.append((time.perf_counter() - start) * 1000)
times.sort()
print(f"a new Service is in DNS {times[100]:.2f} ms (p50), {times[198]:.2f} ms (p99) after the API server has answered")
P
python3 "$DIR/visible.py" $IP "$DIR"
