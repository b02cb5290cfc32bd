"""A listener that passes connections on to whoever is chosen for each, and can be held shut."""

import contextlib
import socket
import socketserver
import threading


class Gate:
    """Passes on what comes to an address. `choose` names the port of each connection's backend, or None."""

    def __init__(self, address, choose):
        self.choose = choose
        # What a client may not send while this is set; it waits.
        self.held = None
        self.released = threading.Condition()
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                gate.serve(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.listener = Listener(address, Handler)
        self.port = self.listener.server_address[1]
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def close(self):
        self.release()
        self.listener.shutdown()
        self.listener.server_close()

    def hold(self, words):
        """Lets no more pass what holds these words."""
        self.held = words

    def release(self):
        with self.released:
            self.held = None
            self.released.notify_all()

    def serve(self, client):
        port = self.choose()
        if port is None:
            return
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as backend:
            back = threading.Thread(target=self.pump, args=(backend, client, False), daemon=True)
            back.start()
            self.pump(client, backend, True)
            back.join()

    def pump(self, source, target, may_be_held):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if may_be_held:
                    with self.released:
                        self.released.wait_for(lambda: self.held is None or self.held not in piece)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
