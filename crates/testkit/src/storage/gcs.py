"""Puts a file into the bucket of an emulator of Google's Cloud Storage: BASE FILE OBJECT."""

import sys
import urllib.parse
import urllib.request

base, path, name = sys.argv[1:]
query = urllib.parse.urlencode({"uploadType": "media", "name": name})
with open(path, "rb") as file:
    request = urllib.request.Request(f"{base}/upload/storage/v1/b/contexts/o?{query}", data=file.read())
request.add_header("Content-Type", "application/octet-stream")
urllib.request.urlopen(request).read()
