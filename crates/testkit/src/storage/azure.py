"""Puts a file into Azurite, signed: BASE HOST KEY FILE BLOB. The container `contexts` is closed, `public` is not."""

import base64
import email.utils
import hashlib
import hmac
import ssl
import sys
import urllib.request

base, host, secret, path, blob = sys.argv[1:]
account = host.split(".")[0]
context = ssl._create_unverified_context()


def put(target, query, more, body):
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02", **more}
    own = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    length = str(len(body)) if body else ""
    pairs = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    kind = "application/octet-stream"
    text = f"PUT\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{own}/{account}{target}{pairs}"
    signature = hmac.new(base64.b64decode(secret), text.encode(), hashlib.sha256).digest()
    url = base + target + ("?" + "&".join(f"{n}={v}" for n, v in query.items()) if query else "")
    request = urllib.request.Request(url, data=body, method="PUT", headers=headers)
    request.add_header("Content-Type", kind)
    request.add_header("Host", host)
    request.add_header("Authorization", f"SharedKey {account}:{base64.b64encode(signature).decode()}")
    urllib.request.urlopen(request, context=context).read()


for container, access in [("contexts", {}), ("public", {"x-ms-blob-public-access": "blob"})]:
    put(f"/{container}", {"restype": "container"}, access, b"")
    with open(path, "rb") as file:
        put(f"/{container}/{blob}", {}, {"x-ms-blob-type": "BlockBlob"}, file.read())
