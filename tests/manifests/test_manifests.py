"""The manifests of deploy/kubernetes/: right by the schemas of Kubernetes, whole, and understood by asgard."""

import json
import os
import pathlib
import subprocess

import kubernetes_validate
import pytest

from kustomization import build

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
VERSIONS = ["1.27", "1.33", "1.37"]


@pytest.fixture(params=OVERLAYS)
def objects(request):
    return build(FOLDER / "overlays" / request.param)


def of_kind(objects, kind):
    return {name: thing for (_, k, name), thing in objects.items() if k == kind}


def pod_templates(objects):
    return [
        thing["spec"]["template"]
        for kind in ("Deployment", "Job")
        for thing in of_kind(objects, kind).values()
    ]


def containers(objects):
    return [c for template in pod_templates(objects) for c in template["spec"]["containers"]]


def selects(selector, objects):
    labels = [template["metadata"]["labels"] for template in pod_templates(objects)]
    return any(selector.items() <= found.items() for found in labels)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_accept_every_object(objects, version):
    for thing in objects.values():
        kubernetes_validate.validate(thing, version, strict=True)


def test_the_documented_names_are_there(objects):
    assert all(t["metadata"].get("namespace", "asgard") == "asgard" for t in objects.values())
    app = of_kind(objects, "Deployment")["asgard-app"]
    assert app["metadata"]["labels"]["app"] == "asgard-app"
    services = of_kind(objects, "Service")
    assert services["asgard-app"]["spec"]["ports"][0]["port"] == 80
    assert app["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] == 8000
    assert services["mlflow-service"]["spec"]["ports"][0]["port"] == 5000
    # Under its short and its full name, for both services.
    settings = of_kind(objects, "ConfigMap")["asgard-config"]["data"]["asgard.toml"]
    for service in services:
        for name in (service, f"{service}.asgard", f"{service}.asgard.svc.cluster.local"):
            assert f'"{name}"' in settings, name
    resources = app["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1000m", "memory": "2Gi"}
    assert resources["limits"] == {"cpu": "2000m", "memory": "4Gi"}


def test_whatever_an_object_names_exists(objects):
    accounts = of_kind(objects, "ServiceAccount")
    for template in pod_templates(objects):
        assert template["spec"]["serviceAccountName"] in accounts
        for volume in template["spec"]["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in of_kind(objects, "ConfigMap")
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in of_kind(objects, "PersistentVolumeClaim")
        for container in template["spec"]["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}
    for service in of_kind(objects, "Service").values():
        assert selects(service["spec"]["selector"], objects)
    for budget in of_kind(objects, "PodDisruptionBudget").values():
        assert selects(budget["spec"]["selector"]["matchLabels"], objects)
    for policy in of_kind(objects, "NetworkPolicy").values():
        assert selects(policy["spec"]["podSelector"].get("matchLabels", {}), objects)
    for binding in of_kind(objects, "RoleBinding").values():
        assert binding["roleRef"]["name"] in of_kind(objects, "Role")
        assert all(subject["name"] in accounts for subject in binding["subjects"])
    for ingress in of_kind(objects, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["backend"]["service"]["name"] in of_kind(objects, "Service")


def test_pods_are_held_to_the_restricted_standard(objects):
    for template in pod_templates(objects):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["image"].count(":") == 1, "an image without a tag"


def test_the_role_has_no_wildcards(objects):
    for role in of_kind(objects, "Role").values():
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    assert not of_kind(objects, "ClusterRole")


def test_several_servers_are_scaled_by_one_autoscaler():
    for name in OVERLAYS:
        objects = build(FOLDER / "overlays" / name)
        app = of_kind(objects, "Deployment")["asgard-app"]["spec"]
        scalers = of_kind(objects, "HorizontalPodAutoscaler")
        if name == "minimal":
            assert app["replicas"] == 1 and not scalers
            continue
        assert "replicas" not in app, f"{name}: the autoscaler owns the number of replicas"
        spec = scalers["asgard-app-hpa"]["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
        assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
        variables = [e["name"] for e in app["template"]["spec"]["containers"][0]["env"]]
        assert {"ASGARD__DATABASE__URL", "ASGARD__ARTIFACTS__URL", "ASGARD__SERVER__SECRET_KEY"} <= set(variables)


def test_one_server_keeps_database_and_feature_registry_on_a_volume():
    objects = build(FOLDER / "overlays/minimal")
    pod = of_kind(objects, "Deployment")["asgard-app"]["spec"]["template"]["spec"]
    [data] = [volume for volume in pod["volumes"] if volume["name"] == "data"]
    claim = of_kind(objects, "PersistentVolumeClaim")[data["persistentVolumeClaim"]["claimName"]]
    assert claim["spec"]["resources"]["requests"]["storage"]
    [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "data"]
    config = of_kind(objects, "ConfigMap")["asgard-config"]["data"]["asgard.toml"]
    assert f'data_dir = "{mount["mountPath"]}"' in config


def test_servers_are_probed_and_log_in_json(objects):
    server = of_kind(objects, "Deployment")["asgard-app"]["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert 'log_format = "json"' in of_kind(objects, "ConfigMap")["asgard-config"]["data"]["asgard.toml"]


def test_the_policies_of_aws_name_what_the_store_does():
    folder = FOLDER / "overlays/aws"
    policy = json.loads((folder / "iam-policy.json").read_text())
    actions = {a for s in policy["Statement"] for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= actions
    trust = (folder / "trust-policy.json").read_text()
    assert "system:serviceaccount:asgard:asgard-sa" in trust


def test_asgard_takes_its_settings(objects, tmp_path):
    binary = os.environ["ASGARD_BIN"]
    config = tmp_path / "asgard.toml"
    config.write_text(of_kind(objects, "ConfigMap")["asgard-config"]["data"]["asgard.toml"])
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for variable in of_kind(objects, "Deployment")["asgard-app"]["spec"]["template"]["spec"]["containers"][0]["env"]:
        variables[variable["name"]] = variable.get("value", "postgres://asgard:x@db.example/asgard")
    command = [binary, "--config", str(config), "config", "show", "--output", "json"]
    shown = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert "0.0.0.0:8000" in shown.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["load_balancer", "ingress", "pull_secret"])
def test_the_schemas_accept_what_asgard_deploys(name, version):
    [file] = (ROOT / "crates/deploy/src/kubernetes/objects/snapshots").glob(f"*__{name}.snap")
    _, _, snapshot = file.read_text().split("---\n", 2)
    objects = json.loads(snapshot)
    assert {"Deployment", "Service", "NetworkPolicy"} <= {thing["kind"] for thing in objects}
    for thing in objects:
        kubernetes_validate.validate(thing, version, strict=True)


def test_the_role_uses_secrets_only_as_asgard_does(objects):
    """The one of pulls by its name, and apart from it, to be left out, those of the models' variables."""
    rules = of_kind(objects, "Role")["asgard-deployer"]["rules"]
    pulls, variables = [rule for rule in rules if "secrets" in rule["resources"]]
    assert pulls["resourceNames"] == ["asgard-pull"] and "resourceNames" not in variables
    for rule in (pulls, variables):
        # list and watch would show those of all at once.
        assert rule["resources"] == ["secrets"] and rule["verbs"] == ["get", "create", "patch", "delete"]
    made = {}
    for name in ("pull_secret", "ingress"):
        snapshot = f"crates/deploy/src/kubernetes/objects/snapshots/deploy__kubernetes__objects__tests__{name}.snap"
        things = json.loads((ROOT / snapshot).read_text().split("---\n", 2)[2])
        made[name] = {thing["kind"]: thing["metadata"]["name"] for thing in things}
    assert made["pull_secret"]["Secret"] == pulls["resourceNames"][0]
    assert made["ingress"]["Secret"] == made["ingress"]["Deployment"]


def test_the_role_allows_what_asgard_deploys(objects):
    rules = of_kind(objects, "Role")["asgard-deployer"]["rules"]
    allowed = {(group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]}
    for file in (ROOT / "crates/deploy/src/kubernetes/objects/snapshots").glob("*.snap"):
        for thing in json.loads(file.read_text().split("---\n", 2)[2]):
            group = thing["apiVersion"].rpartition("/")[0]
            plural = thing["kind"].lower() + ("es" if thing["kind"].endswith("s") else "s")
            plural = "networkpolicies" if plural == "networkpolicys" else plural
            assert (group, plural) in allowed
