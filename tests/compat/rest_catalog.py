"""An Iceberg REST catalog for tests: the protocol of Iceberg's OpenAPI document over a SqlCatalog of
pyiceberg. The servers that people run (Polaris, Lakekeeper, Nessie) are on no package index. That this
one is honest is shown by pyiceberg's own REST client, which the tests use against it too."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pyiceberg import exceptions
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest

from conftest import free_port

WAREHOUSE, PREFIX = "ml", "of-ml"
CLIENT_ID, CLIENT_SECRET = "asgard", "s3cret-of-asgard"

STATUS = [
    (exceptions.NoSuchTableError, 404),
    (exceptions.NoSuchNamespaceError, 404),
    (exceptions.TableAlreadyExistsError, 409),
    (exceptions.NamespaceAlreadyExistsError, 409),
    (exceptions.CommitFailedException, 409),
]


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class RestServer:
    """The catalog, and how it behaves: `vended` goes with each table; `fault` is answered to everything."""

    def __init__(self, home, warehouse, **storage):
        self.catalog = SqlCatalog("behind", uri=f"sqlite:///{home}/behind.db", warehouse=warehouse, **storage)
        self.vended, self.fault, self.tokens, self.asked = storage, None, set(), []
        # All tokens end with the first call of this method to a path that ends so.
        self.ends_at = None
        self.renames = True
        self.lock = threading.Lock()
        # Stopped and started again by a test: a port that nobody takes in between.
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler(self))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def as_pyiceberg(self):
        """How pyiceberg is told of the catalog."""
        credential = f"{CLIENT_ID}:{CLIENT_SECRET}"
        return {"type": "rest", "uri": self.uri, "warehouse": WAREHOUSE, "credential": credential}

    def settings(self):
        """How asgard is told of it, as the catalog `lake`."""
        of = self.as_pyiceberg().items()
        return {f"ASGARD__FEATURE_STORE__CATALOGS__LAKE__{name.upper()}": value for name, value in of}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, method, path, query, headers, body):
        if self.fault:
            raise Refused(*self.fault)
        if path == ["v1", "oauth", "tokens"]:
            return self.token(urllib.parse.parse_qs(body.decode()))
        if self.ends_at == (method, path[-1]):
            self.tokens, self.ends_at = set(), None
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refused(401, "the token is not known")
        if path == ["v1", "config"]:
            if query.get("warehouse") != [WAREHOUSE]:
                raise Refused(404, f"there is no warehouse {query.get('warehouse')}")
            return {"defaults": {}, "overrides": {"prefix": PREFIX}}
        if path == ["v1", PREFIX, "tables", "rename"]:
            return self.rename(**json.loads(body))
        if path[:3] != ["v1", PREFIX, "namespaces"]:
            raise Refused(404, "no such path")
        namespace = tuple(path[3].split("\x1f")) if len(path) > 3 else None
        return self.below_namespaces(method, namespace, path[4:], query, headers, body and json.loads(body))

    def token(self, form):
        if form.get("client_id") != [CLIENT_ID] or form.get("client_secret") != [CLIENT_SECRET]:
            raise Refused(401, "the client is not known")
        token = f"token-{len(self.asked)}-{len(self.tokens)}"
        self.tokens.add(token)
        issued = "urn:ietf:params:oauth:token-type:access_token"
        return {"access_token": token, "token_type": "bearer", "expires_in": 3600, "issued_token_type": issued}

    def rename(self, source, destination):
        if not self.renames:
            raise Refused(409, "nothing is renamed today")
        self.catalog.rename_table(*[(*of["namespace"], of["name"]) for of in (source, destination)])

    def below_namespaces(self, method, namespace, rest, query, headers, body):
        catalog = self.catalog
        if namespace is None and method == "GET":
            parent = tuple(query["parent"][0].split("\x1f")) if "parent" in query else ()
            return {"namespaces": [list(found) for found in catalog.list_namespaces(parent)]}
        if namespace is None:
            catalog.create_namespace(tuple(body["namespace"]), body.get("properties") or {})
            return body
        if not rest:
            return {"namespace": list(namespace), "properties": catalog.load_namespace_properties(namespace)}
        if len(rest) == 1 and method == "GET":
            tables = catalog.list_tables(namespace)
            # In pages of one, which is what clients must be ready for.
            at = int(query.get("pageToken", ["0"])[0] or 0)
            page = [{"namespace": list(t[:-1]), "name": t[-1]} for t in tables[at : at + 1]]
            more = {"next-page-token": str(at + 1)} if at + 1 < len(tables) else {}
            return {"identifiers": page, **more}
        if len(rest) == 1:
            schema = Schema.model_validate(body["schema"])
            spec = PartitionSpec.model_validate(body["partition-spec"]) if body.get("partition-spec") else PartitionSpec()
            table = catalog.create_table((*namespace, body["name"]), schema, partition_spec=spec)
            return self.loaded(table, headers)
        identifier = (*namespace, rest[1])
        if method == "DELETE":
            purge = query.get("purgeRequested") == ["true"]
            return catalog.purge_table(identifier) if purge else catalog.drop_table(identifier)
        table = catalog.load_table(identifier)
        if method == "POST":
            asked = CommitTableRequest.model_validate(body)
            made = catalog.commit_table(table, asked.requirements, asked.updates)
            return {"metadata": metadata(made), "metadata-location": made.metadata_location}
        return self.loaded(table, headers)

    def loaded(self, table, headers):
        delegated = headers.get("x-iceberg-access-delegation") == "vended-credentials"
        config = self.vended if delegated else {}
        return {"metadata": metadata(table), "metadata-location": table.metadata_location, "config": config}


def metadata(of):
    return json.loads(of.metadata.model_dump_json())


def handler(server):
    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            url = urllib.parse.urlsplit(self.path)
            path = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append((self.command, url.path))
            try:
                with server.lock:
                    answer = server.answer(self.command, path, urllib.parse.parse_qs(url.query), headers, body)
                status = 200 if answer is not None and self.command != "HEAD" else 204
            except Exception as error:
                status = next((s for kind, s in STATUS if isinstance(error, kind)), 500)
                status = getattr(error, "status", status)
                answer = {"error": {"message": str(error), "type": type(error).__name__, "code": status}}
            text = b"" if self.command == "HEAD" or status == 204 else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_):
            pass

    return Handler
