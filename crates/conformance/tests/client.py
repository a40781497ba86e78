"""The official Python client against a running Steadfast: typed calls, watch, exec, logs, patches."""

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

config.load_kube_config()
core, apps, version = client.CoreV1Api(), client.AppsV1Api(), client.VersionApi()

assert version.get_code().git_version.startswith("v1.36.")
assert any(n.metadata.name == "default" for n in core.list_namespace().items)

labels = {"app": "py"}
container = client.V1Container(
    name="c",
    image="steadfast.local/web:1",
    command=["/bin/sh", "-c", "echo hello; exec httpd -f -p 80 -h /www"],
    readiness_probe=client.V1Probe(tcp_socket=client.V1TCPSocketAction(port=80), period_seconds=1),
)
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels=labels),
    spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
)
spec = client.V1StatefulSetSpec(
    service_name="py", replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template
)
core.create_namespaced_service(
    "default",
    client.V1Service(
        metadata=client.V1ObjectMeta(name="py"),
        spec=client.V1ServiceSpec(cluster_ip="None", selector=labels, ports=[client.V1ServicePort(port=80)]),
    ),
)
made = apps.create_namespaced_stateful_set(
    "default", client.V1StatefulSet(metadata=client.V1ObjectMeta(name="py"), spec=spec)
)
assert made.metadata.generation == 1 and made.spec.pod_management_policy == "OrderedReady"


def wait_until(done):
    for event in watch.Watch().stream(apps.list_namespaced_stateful_set, "default", timeout_seconds=120):
        if done(event["object"]):
            return event["object"]
    raise AssertionError("the watch ended")


wait_until(lambda s: s.status.ready_replicas == 2)
pods = [p.metadata.name for p in core.list_namespaced_pod("default", label_selector="app=py").items]
assert pods == ["py-0", "py-1"], pods
# The raw answer: what this client makes of text differs between its versions.
log = core.read_namespaced_pod_log("py-0", "default", _preload_content=False).data
assert log == b"hello\n", log
said = stream(
    core.connect_get_namespaced_pod_exec,
    "py-1",
    "default",
    command=["hostname"],
    stdout=True,
    stderr=True,
    stdin=False,
    tty=False,
)
assert said.strip() == "py-1", said

apps.patch_namespaced_stateful_set_scale("py", "default", {"spec": {"replicas": 1}})
wait_until(lambda s: s.status.replicas == 1)

stale = apps.read_namespaced_stateful_set("py", "default")
apps.patch_namespaced_stateful_set("py", "default", {"metadata": {"labels": {"x": "y"}}})
try:
    apps.replace_namespaced_stateful_set("py", "default", stale)
    raise AssertionError("a stale write was taken")
except ApiException as refused:
    assert refused.status == 409, refused

try:
    core.read_namespaced_pod("absent", "default")
    raise AssertionError("an absent pod was read")
except ApiException as refused:
    assert refused.status == 404 and '"reason":"NotFound"' in refused.body.replace(" ", ""), refused.body

apps.delete_namespaced_stateful_set("py", "default")
print("all held")
