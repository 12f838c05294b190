"""Asks the proxy inside a sandbox for something, whatever it is.

ask.py connect HOST:PORT [NAME]   a tunnel, TLS for NAME (HOST if not given, none for -), a request
ask.py get URL [HEADER...]        a request over plain HTTP, with these headers instead of Host
ask.py follow URL                 the same, following redirects
ask.py send TEXT                  the bytes of TEXT, with escapes
ask.py upload URL                 a request whose body does not end
ask.py hold N                     N connections that say nothing, until they are closed
ask.py … and …                    one after the other
"""

import socket
import sys

PROXY = ("127.0.0.1", 3128)


def dial():
    return socket.create_connection(PROXY, 8)


def read(connection):
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except OSError as error:
        said += f"[{type(error).__name__}]".encode()
    return said.decode("latin-1")


def show(connection):
    try:
        while piece := connection.recv(65536):
            print(piece.decode("latin-1"), end="", flush=True)
        print()
    except OSError as error:
        print(f"[{type(error).__name__}]")


def connect(target, name=None):
    connection = dial()
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and (piece := connection.recv(1)):
        head += piece
    print(head.decode("latin-1").strip())
    if b" 200 " not in head.split(b"\r\n")[0]:
        print(read(connection))
        return
    # Only who needs these waits for them: they take a second where a processor is emulated.
    import ssl

    context = ssl._create_unverified_context()
    name = name or target.rsplit(":", 1)[0]
    try:
        name = None if name == "-" else name
        secure = context.wrap_socket(connection, server_hostname=name)
    except OSError as error:
        print("no TLS:", type(error).__name__)
        return
    secure.sendall(f"GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
    print(read(secure))


def get(url, *headers):
    headers = headers or (f"Host: {url.split('/')[2]}",)
    send("\r\n".join((f"GET {url} HTTP/1.1", *headers, "", "")))


def follow(url):
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=8) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.headers.get("x-sandbox-deny"))


def send(text):
    connection = dial()
    try:
        connection.sendall(text.encode().decode("unicode_escape").encode("latin-1"))
    except OSError as error:
        print(type(error).__name__)
    show(connection)


def upload(url):
    connection = dial()
    head = f"POST {url} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(f"{head}4\r\nsome\r\n".encode())
    print("sent some")
    print(read(connection))


def hold(count):
    held = [dial() for _ in range(int(count))]
    for connection in reversed(held):
        print(read(connection))


asks = [[]]
for word in sys.argv[1:]:
    if word == "and":
        asks.append([])
    else:
        asks[-1].append(word)
for what, *arguments in filter(None, asks):
    globals()[what](*arguments)
