#!/usr/bin/env python3
"""What a service under test needs from outside: a backend, clients that go on until they are told to stop, and a look at a
certificate. Each command prints one line of JSON when it ends (on TERM, for those that go on)."""

import argparse
import hashlib
import json
import signal
import socket
import ssl
import sys
import threading
import time

PATIENCE = 30.0
stopped = threading.Event()


def context():
    """The certificates of the tests sign themselves; which one is served is asked by its fingerprint."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls


def connect(port, patience=PATIENCE):
    plain = socket.create_connection(("127.0.0.1", port), timeout=patience)
    try:
        return context().wrap_socket(plain, server_hostname="bowline.test")
    except BaseException:
        plain.close()
        raise


def echo(connection, text):
    connection.sendall(text)
    answer = b""
    while len(answer) < len(text):
        more = connection.recv(4096)
        if not more:
            raise ConnectionError("the stream ended before the answer")
        answer += more
    if answer != text:
        raise ConnectionError("the answer is not what was sent")


def backend(options):
    """Sends back what it gets, half-close included."""
    def serve(client):
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                pass

    listener = socket.create_server(("127.0.0.1", options.port), backlog=4096)
    threading.Thread(target=lambda: stopped.wait() and listener.shutdown(socket.SHUT_RDWR), daemon=True).start()
    while not stopped.is_set():
        try:
            client, _ = listener.accept()
        except OSError:
            break
        threading.Thread(target=serve, args=(client,), daemon=True).start()
    return {}


def load(options):
    """Connections one after the other: connect, handshake, one echo, end."""
    lock = threading.Lock()
    counts = {"ok": 0, "failed": 0, "refused": 0, "slowest": 0.0, "errors": []}

    def client():
        while not stopped.is_set():
            start, error = time.monotonic(), None
            try:
                with connect(options.port) as connection:
                    echo(connection, b"hello")
            except (OSError, ValueError) as problem:
                error = problem
            with lock:
                counts["slowest"] = round(max(counts["slowest"], time.monotonic() - start), 3)
                if error is None:
                    counts["ok"] += 1
                else:
                    counts["failed"] += 1
                    counts["refused"] += isinstance(error, ConnectionRefusedError)
                    counts["errors"] = (counts["errors"] + [f"{time.strftime('%T')} {error!r}"])[-5:]
            stopped.wait(options.pause)

    threads = [threading.Thread(target=client) for _ in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def long(options):
    """One connection that lives as long as this command: an echo every 50 ms. Ends early if it breaks."""
    start, echoes = time.monotonic(), 0
    broken = None
    try:
        with connect(options.port) as connection:
            while not stopped.is_set():
                echo(connection, b"still here")
                echoes += 1
                if echoes == 1:
                    print("up", flush=True)
                stopped.wait(0.05)
    except (OSError, ValueError) as problem:
        broken = repr(problem)
    return {"echoes": echoes, "broken": broken, "seconds": round(time.monotonic() - start, 2)}


def fingerprint(options):
    with connect(options.port) as connection:
        return {"sha256": hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()}


def burst(options):
    """Many connections that end at once, whatever they do: each is one line in a log."""
    share, rest = divmod(options.count, options.clients)

    def client(count):
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", options.port), timeout=PATIENCE) as connection:
                connection.sendall(b"not TLS\r\n")
                try:
                    while connection.recv(4096):
                        pass
                except ConnectionError:
                    pass

    start = time.monotonic()
    threads = [threading.Thread(target=client, args=(share + (n < rest),)) for n in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"sent": options.count, "seconds": round(time.monotonic() - start, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["backend", "load", "long", "fingerprint", "burst"])
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two connections of a client")
    parser.add_argument("--count", type=int, default=1000, help="connections of a burst")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    commands = {"backend": backend, "load": load, "long": long, "fingerprint": fingerprint, "burst": burst}
    try:
        print(json.dumps(commands[options.command](options)), flush=True)
    except (OSError, ValueError) as problem:
        sys.exit(f"{options.command}: {problem!r}")


main()
