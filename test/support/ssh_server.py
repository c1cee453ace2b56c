"""A bastion host: an SSH server on 127.0.0.1 that only leads connections on (direct-tcpip), and makes trouble on request.

    with SshServer({"mover": "password"}, aims={("db.internal", 5432): ("127.0.0.1", port)}) as bastion:
        bastion.port, bastion.logins, bastion.led, bastion.cut()

Nothing outside knows the names of `aims`: what reaches their servers has come through here.
"""
import contextlib
import logging
import socket
import struct
import subprocess
import threading

import paramiko

logging.getLogger("paramiko").setLevel(logging.CRITICAL)

LINGER_RESET = struct.pack("ii", 1, 0)  # close() sends RST


def make_key(path):
    """A key pair as people make it: the private one's text, and what the server has to know."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True,
                   stdin=subprocess.DEVNULL, capture_output=True)
    with open(path, encoding="ascii") as private, open(f"{path}.pub", encoding="ascii") as public:
        return private.read(), public.read().split()[1]


class _Rules(paramiko.ServerInterface):
    def __init__(self, server):
        self.server = server
        self.aims = {}  # channel: its socket to where it leads

    def get_allowed_auths(self, username):
        return "password,publickey"

    def _answer(self, good):
        self.server.count("attempts")
        if not good:
            return paramiko.AUTH_FAILED
        self.server.count("logins")
        return paramiko.AUTH_SUCCESSFUL

    def check_auth_password(self, username, password):
        return self._answer(self.server.passwords.get(username) == password)

    def check_auth_publickey(self, username, key):
        return self._answer((username, key.get_base64()) in self.server.keys)

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        if self.server.forbids:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            self.aims[chanid] = socket.create_connection(self.server.aims[destination], timeout=10)
        except (KeyError, OSError):
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        self.server.count("led")
        return paramiko.OPEN_SUCCEEDED


class SshServer:
    """passwords: {user: password}; keys: [(user, base64)]; aims: {(name, port): (address, port)}."""

    def __init__(self, passwords=None, keys=(), aims=None):
        self.passwords, self.keys, self.aims = passwords or {}, set(keys), aims or {}
        self.host_key = paramiko.ECDSAKey.generate()
        self.attempts = self.logins = self.led = 0
        self.forbids = False
        self.lock = threading.Lock()
        self.transports = []
        self.listener = None
        self.port = 0

    def count(self, what):
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)

    # --- life ---

    def start(self):
        """On the same port as before, if there was one."""
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(50)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def stop(self):
        if self.listener:
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self.listener.close()
            self.listener = None
        self.cut()

    def cut(self):
        """Every connection that there is, as if the network had gone; how many."""
        with self.lock:
            transports, self.transports = self.transports, []
        living = [t for t in transports if t.is_active()]
        for transport in transports:
            with contextlib.suppress(OSError):
                transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            transport.close()
        return len(living)

    def change_host_key(self):
        self.host_key = paramiko.ECDSAKey.generate()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # --- connections ---

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.host_key)
        rules = _Rules(self)
        with self.lock:
            self.transports.append(transport)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=rules)
            while transport.is_active():
                channel = transport.accept(1)
                if channel is not None:
                    self._lead(channel, rules.aims.pop(channel.get_id()))
        transport.close()

    @staticmethod
    def _lead(channel, aim):
        aim.settimeout(None)
        for from_end, to_end in ((channel, aim), (aim, channel)):
            threading.Thread(target=_carry, args=(from_end, to_end), daemon=True).start()


def _carry(from_end, to_end):
    with contextlib.suppress(OSError, EOFError):
        while data := from_end.recv(32768):
            to_end.sendall(data)
    for end in (from_end, to_end):
        with contextlib.suppress(OSError, EOFError):
            end.shutdown(socket.SHUT_RDWR)  # else the other thread goes on waiting, and the server with it
        with contextlib.suppress(OSError, EOFError):
            end.close()
