"""Feast's own registry, offline and feature server over the repository in this folder.

usage: python feast_servers.py REGISTRY_PORT OFFLINE_PORT FEATURE_PORT

They are what `feast serve_registry`, `serve_offline` and `serve` start, in one process: its start takes
seconds, and they see each other's definitions at once.
"""

import sys
import threading

import uvicorn
from feast import FeatureStore, feature_server, offline_server, registry_server


def main():
    registry_port, offline_port, feature_port = map(int, sys.argv[1:])
    store = FeatureStore(repo_path=".")
    registry = registry_server.start_server(store, registry_port, wait_for_termination=False)
    serve_offline = threading.Thread(
        target=offline_server.start_server, args=(store, "127.0.0.1", offline_port), daemon=True
    )
    serve_offline.start()
    # The feature server's own start forks workers, which would not share the registry.
    uvicorn.run(feature_server.get_app(store, 0), host="127.0.0.1", port=feature_port, access_log=False)
    registry.stop(None)


main()
