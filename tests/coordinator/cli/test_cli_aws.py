"""`shiftwork aws policy`: the document on stdout, everything else beside it."""

from __future__ import annotations

import json

FILE = """\
application: web
groups:
  production:
    aws: {region: eu-west-1}
    load_balancers: [{elbv2: {target_group: web, role_arn: "arn:aws:iam::2:role/balancing"}}]
    alarms: {cloudwatch: [red]}
  fn: {platform: Lambda}
  rack: {instances: {names: [r1]}}
"""


def actions(text: str) -> set[str]:
    return {action for statement in json.loads(text)["Statement"] for action in statement["Action"]}


async def test_groups_of_a_file_need_no_coordinator(cli, tmp_path):
    (tmp_path / "shiftwork.yml").write_text(FILE)
    file = str(tmp_path / "shiftwork.yml")
    ran = await cli("aws", "policy", "-f", file, "--account", "123456789012")
    assert ran.code == 0
    assert {"sts:AssumeRole", "cloudwatch:DescribeAlarms", "lambda:UpdateAlias"} <= actions(ran.out)
    assert "narrow `function:*`" in ran.err
    assert "--role arn:aws:iam::2:role/balancing" in ran.err
    role = await cli("aws", "policy", "-f", file, "--role", "arn:aws:iam::2:role/balancing")
    assert "elasticloadbalancing:RegisterTargets" in actions(role.out)
    one = await cli("aws", "policy", "web/fn", "-f", file, "--sam", "--bucket", "art")
    assert {"lambda:UpdateFunctionCode", "cloudformation:DescribeStacks", "s3:GetObject"} <= actions(one.out)
    assert "cloudwatch:DescribeAlarms" not in actions(one.out)
    rack = await cli("aws", "policy", "web/rack", "-f", file)
    assert (rack.code, rack.out, rack.err) == (0, "", "These groups need nothing of AWS.\n")


async def test_what_is_not_there_is_named(cli, tmp_path):
    (tmp_path / "shiftwork.yml").write_text(FILE)
    file = str(tmp_path / "shiftwork.yml")
    ran = await cli("aws", "policy", "web/nobody", "-f", file)
    assert (ran.code, "cannot find the deployment group web/nobody" in ran.err) == (2, True)
    ran = await cli("aws", "policy", "-f", file, "--role", "arn:aws:iam::9:role/x")
    assert (ran.code, "no group acts as it" in ran.err) == (2, True)


async def test_the_coordinators_groups_are_asked_for(fake, cli):
    fake.on("GET", "/v1/applications", {"applications": [{"applicationName": "web", "groups": ["production"]}]})
    settings = {"instances": {"ids": ["i-1"]}, "aws": {"region": "eu-west-1"}}
    fake.on("GET", "/v1/groups/web/production", {"settings": settings})
    assert actions((await cli("aws", "policy")).out) == {"ec2:DescribeInstances"}
    told = json.loads((await cli("aws", "policy", "web/production", "--output", "json")).out)
    assert [(one["role"], one["notes"]) for one in told["policies"]] == [("", [])]
    assert actions(json.dumps(told["policies"][0]["document"])) == {"ec2:DescribeInstances"}
