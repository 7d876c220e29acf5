"""Fills moto and turns its checks on: BASE FILE KEY. Prints the keys of a user who may read one bucket."""

import json
import sys
import urllib.request

import boto3

base, path, key = sys.argv[1:]
anybody = {"endpoint_url": base, "aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
s3 = boto3.client("s3", **anybody)
iam = boto3.client("iam", **anybody)
for bucket in ["contexts", "closed"]:
    s3.create_bucket(Bucket=bucket)
    s3.upload_file(path, bucket, key)
policy = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::contexts/*"}],
}
iam.create_user(UserName="builder")
iam.put_user_policy(UserName="builder", PolicyName="read", PolicyDocument=json.dumps(policy))
keys = iam.create_access_key(UserName="builder")["AccessKey"]
# From now on every signature is verified, and every right.
plain = {"Content-Type": "text/plain"}
urllib.request.urlopen(urllib.request.Request(base + "/moto-api/reset-auth", b"0", plain)).read()
print(keys["AccessKeyId"], keys["SecretAccessKey"])
