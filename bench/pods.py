#!/usr/bin/env python3
"""How long a pod takes from its creation until it is Ready, and from its deletion until it is gone.

Measured with a small image that is already there: pods one after the other, then a burst of them at once, as a watch of
the API tells it; then the memory of the daemon and of each pod's monitor. As a measure of the machine, `runc run` starts
a container of the same root filesystem in the same run; the times are also given as ratios to that.

Needs root, python3, runc and nft. Usage: bench/pods.py [ONE_BY_ONE [BURST]]
"""

import base64, http.client, json, os, re, shutil, signal, socket, ssl, statistics, subprocess, sys, tempfile, threading, time

STEADFAST = os.environ.get("STEADFAST_BIN", "target/release/steadfast")
IMAGE = os.environ.get("STEADFAST_PAUSE", "target/images/pause.tar")
IMAGE_NAME = "steadfast.local/pause:1"
ONE_BY_ONE = int(sys.argv[1]) if len(sys.argv) > 1 else 20
BURST = int(sys.argv[2]) if len(sys.argv) > 2 else 30
PODS = "/api/v1/namespaces/default/pods"


class Api:
    """The API server, as the administrator."""

    def __init__(self, kubeconfig):
        text = open(kubeconfig).read()
        field = lambda name: re.search(name + r":\s*\"?([^\s\"]+)", text).group(1)
        self.host, self.port = re.search(r"https://([^:/]+):(\d+)", text).groups()
        self.tls = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(base64.b64decode(field("client-certificate-data")) + base64.b64decode(field("client-key-data")))
            pem.flush()
            self.tls.load_cert_chain(pem.name)
        self.local = threading.local()

    def connection(self):
        return http.client.HTTPSConnection(self.host, int(self.port), context=self.tls)

    def call(self, method, path, body=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = self.connection()
        self.local.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.local.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
        return json.loads(content)


class Seen:
    """When each pod was first Ready and when it was gone."""

    def __init__(self, api):
        self.changed, self.ready, self.gone = threading.Condition(), {}, {}
        version = api.call("GET", PODS)["metadata"]["resourceVersion"]
        connection = api.connection()
        connection.request("GET", f"{PODS}?watch=true&resourceVersion={version}")
        self.answer = connection.getresponse()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.answer:
            event, now = json.loads(line), time.monotonic()
            pod = event["object"]
            name = pod["metadata"]["name"]
            conditions = pod.get("status", {}).get("conditions", [])
            with self.changed:
                if event["type"] == "DELETED":
                    self.gone[name] = now
                elif any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    self.ready.setdefault(name, now)
                self.changed.notify_all()

    def wait(self, times, names):
        with self.changed:
            if not self.changed.wait_for(lambda: all(name in times for name in names), timeout=120):
                raise RuntimeError(f"waited in vain for {[name for name in names if name not in times]}")
        return max(times[name] for name in names)


def pod(name):
    # The image's own command does not hear SIGTERM, which would measure the grace.
    command = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 1000 & wait"]
    container = {"name": "main", "image": IMAGE_NAME, "imagePullPolicy": "Never", "command": command}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def told(what, times):
    times = sorted(1000 * t for t in times)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    print(f"{what}: median {statistics.median(times):.0f} ms, p99 {p99:.0f} ms ({len(times)} times)")
    return statistics.median(times)


def private_bytes(pid):
    rollup = open(f"/proc/{pid}/smaps_rollup").read()
    return 1024 * sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+)", rollup, re.M))


def monitors(data):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
        except OSError:
            continue
        if "monitor" in words[:3] and any(word.startswith(data) for word in words):
            yield int(pid)


def runc(folder):
    """The median time of `runc run --detach` for a container of the image's root filesystem."""
    bundle, image = f"{folder}/bundle", f"{folder}/image"
    os.makedirs(f"{bundle}/rootfs")
    os.makedirs(image)
    subprocess.run(["tar", "-xf", IMAGE, "-C", image], check=True)
    manifest = json.load(open(f"{image}/manifest.json"))[0]
    for layer in manifest["Layers"]:
        subprocess.run(["tar", "-xf", f"{image}/{layer}", "-C", f"{bundle}/rootfs"], check=True)
    config = json.load(open(f"{image}/{manifest['Config']}"))["config"]
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    spec = json.load(open(f"{bundle}/config.json"))
    spec["process"].update(terminal=False, args=(config.get("Entrypoint") or []) + (config.get("Cmd") or []))
    json.dump(spec, open(f"{bundle}/config.json", "w"))
    times = []
    for n in range(ONE_BY_ONE):
        name, begun = f"sf-bench-{os.getpid()}-{n}", time.monotonic()
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["runc", "run", "--detach", "--bundle", bundle, name], check=True, **quiet)
        times.append(time.monotonic() - begun)
        subprocess.run(["runc", "delete", "--force", name], check=True)
    return told("runc run --detach", times)


def measure(api, data, daemon, yardstick):
    seen = Seen(api)
    ready, gone = [], []
    for n in range(ONE_BY_ONE):
        name, begun = f"one-{n}", time.monotonic()
        api.call("POST", PODS, pod(name))
        ready.append(seen.wait(seen.ready, [name]) - begun)
        begun = time.monotonic()
        api.call("DELETE", f"{PODS}/{name}")
        gone.append(seen.wait(seen.gone, [name]) - begun)
    for what, times in [("created -> Ready", ready), ("deleted -> gone", gone)]:
        print(f"    = {told(what, times) / yardstick:.1f} times runc run")
    names = [f"burst-{n}" for n in range(BURST)]
    begun = time.monotonic()
    threads = [threading.Thread(target=api.call, args=("POST", PODS, pod(name))) for name in names]
    for thread in threads:
        thread.start()
    took = seen.wait(seen.ready, names) - begun
    print(f"burst of {BURST}: all Ready after {1000 * took:.0f} ms, {BURST / took:.1f} pods/s")
    status = open(f"/proc/{daemon}/status").read()
    resident, own = (int(re.search(name + r":\s+(\d+)", status).group(1)) / 1024 for name in ("VmRSS", "RssAnon"))
    print(f"daemon with {BURST} pods: {resident:.0f} MiB resident, {own:.0f} of it its own, the rest its program's file")
    private = [private_bytes(pid) / 1024 / 1024 for pid in monitors(data)]
    print(f"monitors: {len(private)}, {statistics.median(private):.1f} MiB private each")
    begun = time.monotonic()
    for name in names:
        threading.Thread(target=api.call, args=("DELETE", f"{PODS}/{name}")).start()
    took = seen.wait(seen.gone, names) - begun
    print(f"all {BURST} gone after {1000 * took:.0f} ms, {BURST / took:.1f} pods/s")


def main():
    folder = tempfile.mkdtemp(prefix="sf-bench-", dir="/var/tmp")
    data = f"{folder}/data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run([STEADFAST, "image", "load", "--data-dir", data, IMAGE], check=True)
    log = open(f"{folder}/log", "w")
    daemon = subprocess.Popen([STEADFAST, "up", "--data-dir", data, "--listen", f"127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        yardstick = runc(folder)
        while not os.path.exists(f"{data}/admin.kubeconfig"):
            if daemon.poll() is not None:
                raise RuntimeError(open(f"{folder}/log").read())
            time.sleep(0.05)
        api = Api(f"{data}/admin.kubeconfig")
        while not any(
            c["type"] == "Ready" and c["status"] == "True"
            for node in api.call("GET", "/api/v1/nodes")["items"]
            for c in node["status"]["conditions"]
        ):
            time.sleep(0.05)
        measure(api, data, daemon.pid, yardstick)
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait()
        subprocess.run([STEADFAST, "reset", "--yes", "--data-dir", data], stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


main()
