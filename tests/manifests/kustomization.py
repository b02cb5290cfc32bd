"""What `kubectl kustomize` makes of a folder, for the parts of it that deploy/kubernetes/ uses.

Strategic merge as Kubernetes does it: objects are merged key by key, the lists below by the key of
their items, all other lists are replaced, null removes, `$patch: delete` removes the object.
"""

import copy
import pathlib

import yaml

MERGE_KEYS = {
    "containers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
}
KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches", "images"}


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def identity(thing):
    return thing["apiVersion"], thing["kind"], thing["metadata"]["name"]


def merged(base, patch):
    result = copy.deepcopy(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif key in MERGE_KEYS and isinstance(result.get(key), list):
            result[key] = merged_list(result[key], value, MERGE_KEYS[key])
        else:
            result[key] = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
    return result


def merged_list(base, patch, key):
    result = {item[key]: item for item in base}
    for item in patch:
        result[item[key]] = merged(result.get(item[key], {}), item)
    return list(result.values())


def with_image(thing, image):
    """The object with the name and tag of its image replaced."""
    if isinstance(thing, dict):
        replaced = {key: with_image(value, image) for key, value in thing.items()}
        if isinstance(replaced.get("image"), str) and replaced["image"].split(":")[0] == image["name"]:
            name = image.get("newName", image["name"])
            replaced["image"] = f"{name}:{image['newTag']}"
        return replaced
    if isinstance(thing, list):
        return [with_image(item, image) for item in thing]
    return thing


def build(folder: pathlib.Path):
    """The objects of a folder by their identity."""
    described = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(described) <= KNOWN, f"{folder}: this test does not know {set(described) - KNOWN}"
    objects = {}
    named = {"kustomization.yaml"}
    for resource in described["resources"]:
        path = folder / resource
        named.add(resource)
        found = build(path).values() if path.is_dir() else documents(path)
        for thing in found:
            assert identity(thing) not in objects, f"{path}: {identity(thing)} is there twice"
            objects[identity(thing)] = thing
    for patch in described.get("patches", []):
        named.add(patch["path"])
        for thing in documents(folder / patch["path"]):
            assert identity(thing) in objects, f"{patch['path']} changes {identity(thing)}, which is not there"
            if thing.get("$patch") == "delete":
                del objects[identity(thing)]
            else:
                objects[identity(thing)] = merged(objects[identity(thing)], thing)
    for image in described.get("images", []):
        objects = {key: with_image(thing, image) for key, thing in objects.items()}
    forgotten = {path.name for path in folder.glob("*.yaml")} - named
    assert not forgotten, f"{folder}: {forgotten} are named nowhere"
    return objects
