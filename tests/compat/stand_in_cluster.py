"""A Kubernetes API server in memory, whose pods are real: the image that a Deployment names is pulled from
its registry by digest, unpacked, and started as its configuration says. Load balancers lead to them.

Only what the test needs is here. It runs the same on a real cluster: see test_cluster.py.
"""

import base64
import contextlib
import http.server
import json
import re
import subprocess
import threading
import time
import traceback
import urllib.parse

import requests

import containers
from conftest import free_port
from gate import Gate

TOKEN = "t"
NAMESPACE = "asgard"


# The longest pause before a pod's container is started again.
LONGEST_PAUSE_S = 10


class Pod:
    """A container of an image that is started again when it ends, or why there is none."""

    def __init__(self, cluster, deployment):
        self.cluster, self.template = cluster, deployment["spec"]["template"]
        self.labels = self.template["metadata"]["labels"]
        self.port, self.process, self.problem = free_port(), None, None
        self.restarts, self.again = 0, None
        self.log = open(cluster.folder / f"{self.port}.log", "w+")
        self.start()

    def start(self):
        container = self.template["spec"]["containers"][0]
        try:
            login = self.cluster.login(self.template["spec"], container["image"])
            root, config = containers.pull(container["image"], self.cluster.folder, login)
        except (requests.RequestException, AssertionError) as error:
            self.problem = str(error)
            return
        self.problem = None
        assert self.template["spec"]["securityContext"]["runAsNonRoot"] and int(config["User"].split(":")[0])
        variables = {}
        for one in container["env"]:
            taken = one.get("valueFrom", {}).get("secretKeyRef")
            value = self.cluster.secret(taken) if taken else expanded(one["value"], variables)
            variables[one["name"]] = value
        pairs = [f"{name}={value}" for name, value in variables.items()]
        command = [*containers.sandbox(root, config, pairs), *config["Entrypoint"]]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def runs(self):
        return self.problem is None and self.process.poll() is None

    def look(self):
        """What has ended is started again after a pause, as the kubelet does."""
        if self.runs():
            self.again = None
        elif self.again is None:
            self.again = time.monotonic() + min(2**self.restarts, LONGEST_PAUSE_S)
        elif time.monotonic() >= self.again:
            self.restarts, self.again = self.restarts + 1, None
            self.start()

    def ready(self):
        if not self.runs():
            return False
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/health", timeout=10).ok
        return False

    def status(self):
        """As the kubelet tells it."""
        state = {}
        if self.problem:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": self.problem}}
        elif not self.runs():
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "Back-off"}}
        one = {"name": "model", "image": "", "imageID": "", "ready": False, "state": state}
        one["restartCount"] = self.restarts
        return {"containerStatuses": [one]} if state else {}

    def end(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)
        self.log.close()


def expanded(value, variables):
    """A variable's value as containers get it: `$(NAME)` is another one's, `$$` a dollar sign."""
    known = lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0])  # noqa: E731
    return re.sub(r"\$\$|\$\((\w+)\)", known, value)


class StandInCluster:
    def __init__(self, folder):
        self.folder = folder
        self.objects, self.pods, self.balancers = {}, {}, {}
        self.lock = threading.RLock()
        # No pod is told to be ready while this is set.
        self.slow = False
        self.ended = threading.Event()
        self.service_port = free_port()
        cluster = self

        class Handler(ApiServer):
            world = cluster

        self.api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        self.controller = threading.Thread(target=self.control, daemon=True)
        self.controller.start()
        self.kubeconfig = folder / "kubeconfig"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.api.server_port}"}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        self.kubeconfig.write_text(json.dumps(config))

    def close(self):
        self.ended.set()
        self.controller.join()
        self.api.shutdown()
        self.api.server_close()
        for pods in self.pods.values():
            for pod in pods:
                pod.end()
        for balancer in self.balancers.values():
            balancer.close()

    def names(self, kind):
        with self.lock:
            return [name for plural, name in self.objects if plural == kind]

    # What controllers of a cluster do.

    def control(self):
        while not self.ended.wait(0.1):
            try:
                with self.lock:
                    deployments = {n: o for (plural, n), o in self.objects.items() if plural == "deployments"}
                for name in set(self.pods) - set(deployments):
                    for pod in self.pods.pop(name):
                        pod.end()
                for name, deployment in deployments.items():
                    self.roll_out(name, deployment)
                self.balance()
            except Exception:
                # Told, and tried again: what waits for it fails by its own limit.
                traceback.print_exc()
                time.sleep(1)

    def roll_out(self, name, deployment):
        generation, wanted = deployment["metadata"]["generation"], deployment["spec"]["replicas"]
        pods = self.pods.setdefault(name, [])
        for pod in [pod for pod in pods if pod.template != deployment["spec"]["template"]] + pods[wanted:]:
            if pod in pods:
                pods.remove(pod)
                pod.end()
        for pod in pods:
            pod.look()
        if len(pods) < wanted and not any(pod.problem for pod in pods):
            pods.append(Pod(self, deployment))
        ready = 0 if self.slow else sum(pod.ready() for pod in pods)
        status = {
            "observedGeneration": generation, "replicas": len(pods), "updatedReplicas": len(pods),
            "availableReplicas": ready, "readyReplicas": ready,
        }  # fmt: skip
        with self.lock:
            if self.objects.get(("deployments", name), {}).get("metadata") == deployment["metadata"]:
                self.objects["deployments", name] = {**deployment, "status": status}

    def secret(self, reference):
        """The value that a variable takes from a Secret: as it is there, nothing is put in for `$(NAME)`."""
        with self.lock:
            return base64.b64decode(self.objects["secrets", reference["name"]]["data"][reference["key"]]).decode()

    def login(self, spec, image):
        """The name and password by which a pod's image is pulled, of the Secrets that the pod names."""
        host = image.partition("/")[0]
        for named in spec.get("imagePullSecrets", []):
            with self.lock:
                secret = self.objects.get(("secrets", named["name"]))
            if secret and secret["type"] == "kubernetes.io/dockerconfigjson":
                known = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"].get(host)
                if known:
                    name, _, password = base64.b64decode(known["auth"]).decode().partition(":")
                    assert (name, password) == (known["username"], known["password"])
                    return name, password
        return None

    def balance(self):
        """Gives each Service of the kind an address of its own."""
        with self.lock:
            for name in set(self.balancers) - set(self.names("services")):
                self.balancers.pop(name).close()
            for name in self.names("services"):
                if name not in self.balancers:
                    taken = {one.listener.server_address[0] for one in self.balancers.values()}
                    address = next(one for n in range(1, 255) if (one := f"127.0.1.{n}") not in taken)
                    chosen = lambda name=name: self.choose(name)  # noqa: E731
                    self.balancers[name] = Gate((address, self.service_port), chosen)
                balancer = self.balancers[name]
                address = balancer.listener.server_address[0]
                self.objects["services", name]["status"] = {"loadBalancer": {"ingress": [{"ip": address}]}}

    def choose(self, service):
        """The port of a pod that a Service leads to."""
        with self.lock:
            found = self.objects.get(("services", service))
            pods = [pod for pods in list(self.pods.values()) for pod in list(pods)]
        selector = found["spec"]["selector"] if found else {}
        for pod in pods:
            fits = selector and selector.items() <= pod.labels.items()
            if fits and not self.slow and pod.ready():
                return pod.port
        return None

    # What clients ask of it.

    def apply(self, key, body):
        with self.lock:
            before = self.objects.get(key, {})
            body.setdefault("metadata", {})["generation"] = before.get("metadata", {}).get("generation", 0)
            if body.get("spec") != before.get("spec"):
                body["metadata"]["generation"] += 1
            self.objects[key] = {**body, "status": before.get("status", {})}
            return self.objects[key]

    def pods_of(self, selector):
        wanted = dict(one.split("=", 1) for one in selector.split(",") if one)
        pods = [(name, pod) for name, pods in list(self.pods.items()) for pod in list(pods)]
        return [
            {
                "metadata": {"name": f"{name}-{pod.port}", "namespace": NAMESPACE},
                "spec": {"containers": []},
                "status": pod.status(),
            }
            for name, pod in pods
            if wanted.items() <= pod.labels.items()
        ]

    def log(self, name):
        path = self.folder / (name.rpartition("-")[2] + ".log")
        return path.read_text() if path.exists() else ""


class ApiServer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def fail(self, code, message):
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
        self.answer(code, {**body, "reason": "NotFound" if code == 404 else "Invalid", "metadata": {}})

    def handle_one(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.fail(401, "Unauthorized")
        _, _, rest = url.path.partition("/namespaces/")
        namespace, plural, name, *more = [*rest.split("/"), "", ""]
        if namespace != NAMESPACE:
            return self.fail(404, f'namespaces "{namespace}" not found')
        world, key = self.world, (plural, name)
        if self.command == "PATCH":
            if query.get("fieldManager") != "asgard" or "apply-patch" not in self.headers["Content-Type"]:
                return self.fail(415, "only applied by asgard here")
            return self.answer(200, world.apply(key, json.loads(body)))
        if plural == "pods" and more[0] == "log":
            return self.answer(200, world.log(name))
        if not name:
            items = world.pods_of(query.get("labelSelector", "")) if plural == "pods" else []
            kind = {"pods": "PodList", "events": "EventList"}[plural]
            return self.answer(200, {"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items})
        with world.lock:
            found = world.objects.get(key)
            if found and self.command == "DELETE":
                del world.objects[key]
        return self.answer(200, found) if found else self.fail(404, f'{plural} "{name}" not found')

    do_GET = do_PATCH = do_DELETE = handle_one
