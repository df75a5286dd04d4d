mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name                = "attune-test-ams"
  pop                 = "ams"
  region              = "eu-central-1"
  domain              = "attune.example.com"
  bundles_uri         = "s3://attune-test-euw1-lake/bundles"
  bundles_key_arn     = "arn:aws:kms:eu-west-1:111122223333:key/k"
  subject_key_arn     = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:subject"
  subject_key_kms_arn = "arn:aws:kms:eu-west-1:111122223333:key/k"
  subject_key_region  = "eu-west-1"
  origins = [
    { region = "eu-west-1", service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-1" },
    { region = "us-east-1", service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-2" },
    { region = "ap-southeast-1", service_name = "com.amazonaws.vpce.ap-southeast-1.vpce-svc-3" },
  ]
}

run "asks_the_first_and_then_the_second" {
  assert {
    condition     = aws_route53_record.origin["PRIMARY"].set_identifier == "eu-west-1" && aws_route53_record.origin["SECONDARY"].set_identifier == "us-east-1"
    error_message = "origins are not asked in their order"
  }
  assert {
    condition     = alltrue([for record in aws_route53_record.origin : record.alias[0].evaluate_target_health])
    error_message = "a lost origin would still be asked"
  }
  assert {
    condition     = aws_vpc_endpoint.origin["us-east-1"].service_region == "us-east-1"
    error_message = "the endpoint looks for the origin in its own region"
  }
}

run "opens_only_what_visitors_need" {
  assert {
    condition     = aws_vpc_security_group_ingress_rule.visitors.from_port == 443 && aws_lb_listener.tls.protocol == "TLS"
    error_message = "visitors come in another way than TLS"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.edge : rule.cidr_ipv4 == null])
    error_message = "an edge can be reached past its load balancer"
  }
  assert {
    condition     = aws_lb_target_group.edge.health_check[0].path == "/readyz" && aws_lb_target_group.edge.health_check[0].port == "9101"
    error_message = "health is not what the edge says on its admin port"
  }
  assert {
    condition     = strcontains(output.config, "pop = \"ams\"") && strcontains(output.config, "origin = \"http://origin.attune.internal:9002\"")
    error_message = "the edge's configuration names another place or origin"
  }
}

run "lives_with_one_origin" {
  command = plan
  variables {
    origins = [{ region = "eu-west-1", service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-1" }]
  }
  assert {
    condition     = keys(aws_route53_record.origin) == ["PRIMARY"]
    error_message = "there is a second origin where none was named"
  }
}

run "refuses_to_be_without_an_origin" {
  command = plan
  variables {
    origins = []
  }
  expect_failures = [var.origins]
}

run "refuses_a_zone_without_an_edge" {
  command = plan
  variables {
    instances = 2
  }
  expect_failures = [var.instances]
}

run "refuses_bundles_from_anywhere" {
  command = plan
  variables {
    bundles_uri = "https://example.com/bundles"
  }
  expect_failures = [var.bundles_uri]
}
