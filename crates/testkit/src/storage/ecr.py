"""Amazon's registry service, as moto has it: BASE fill; or BASE look KEY SECRET REPOSITORY, which prints the repository."""

import json
import sys
import urllib.request

import boto3

base, mode, *rest = sys.argv[1:]
where = {"endpoint_url": base, "region_name": "eu-west-1"}
if mode == "fill":
    iam = boto3.client("iam", aws_access_key_id="x", aws_secret_access_key="x", **where)
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}],
    }
    iam.create_user(UserName="builder")
    iam.put_user_policy(UserName="builder", PolicyName="push", PolicyDocument=json.dumps(policy))
    keys = iam.create_access_key(UserName="builder")["AccessKey"]
    # From now on every signature is verified, and every right.
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(base + "/moto-api/reset-auth", b"0", plain)).read()
    print(keys["AccessKeyId"], keys["SecretAccessKey"])
else:
    key, secret, name = rest
    ecr = boto3.client("ecr", aws_access_key_id=key, aws_secret_access_key=secret, **where)
    repositories = ecr.describe_repositories()["repositories"]
    print(
        json.dumps(
            {
                "repositories": [repository["repositoryName"] for repository in repositories],
                "lifecycle": json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]),
                "policy": json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"]),
            }
        )
    )
