#!/usr/bin/python3
"""Stands in for `asgard model-server`: the same arguments, the socket it is handed, and an answer that tells the
version and the model's variables, which its log tells too. A request to die ends it, as a crash would; one to
wait is held until the model's folder holds a file `release`."""

import json
import os
import socket
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
version = options["--model-version"]
names = os.environ.get("ASGARD_MODEL_VARIABLES", "").split(",")
variables = {name: os.environ[name] for name in names if name}
if os.path.exists(options["--model"] + "/broken"):
    sys.exit("error: the model is broken\nhelp: mend it")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        if body.get("die"):
            os._exit(3)
        if body.get("wait"):
            print("a request waits", file=sys.stderr, flush=True)
            while not os.path.exists(options["--model"] + "/release"):
                time.sleep(0.02)
        text = json.dumps({"version": version, "variables": variables, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass

    def address_string(self):
        return "local"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


print("stand-in starts", variables, file=sys.stderr, flush=True)
server = Server(None, Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(options["--listen"].removeprefix("fd:")))
server.serve_forever()
