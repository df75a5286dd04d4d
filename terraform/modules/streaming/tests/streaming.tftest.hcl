mock_provider "aws" {
  mock_resource "aws_msk_cluster" {
    defaults = {
      bootstrap_brokers_sasl_scram = "b-1.example:9096,b-2.example:9096,b-3.example:9096"
    }
  }
}

variables {
  name       = "attune-test-use1"
  region     = "us-east-1"
  vpc_id     = "vpc-1"
  subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
  clients    = { cluster = "sg-1" }
  key_arn    = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "loses_nothing_with_a_zone" {
  assert {
    condition     = strcontains(aws_msk_configuration.this.server_properties, "min.insync.replicas=2") && strcontains(aws_msk_configuration.this.server_properties, "default.replication.factor=3")
    error_message = "an event that was acknowledged can be on one broker only"
  }
  assert {
    condition     = strcontains(aws_msk_configuration.this.server_properties, "unclean.leader.election.enable=false")
    error_message = "a broker that is behind can become leader"
  }
  assert {
    condition     = length(output.brokers) == 3
    error_message = "the list of brokers was not taken apart"
  }
}

run "admits_only_who_logs_in_over_tls" {
  assert {
    condition     = !aws_msk_cluster.this.client_authentication[0].unauthenticated && aws_msk_cluster.this.encryption_info[0].encryption_in_transit[0].client_broker == "TLS"
    error_message = "a client can come in without a name or in the clear"
  }
  assert {
    condition     = aws_msk_cluster.this.broker_node_group_info[0].connectivity_info[0].public_access[0].type == "DISABLED"
    error_message = "brokers can be reached from outside"
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.clients : rule.from_port]) == toset([9096])
    error_message = "clients reach a port without TLS"
  }
}

run "refuses_four_brokers" {
  command = plan
  variables {
    brokers = 4
  }
  expect_failures = [var.brokers]
}

run "refuses_no_broker" {
  command = plan
  variables {
    brokers = 0
  }
  expect_failures = [var.brokers]
}

run "refuses_two_zones" {
  command = plan
  variables {
    subnet_ids = ["subnet-a", "subnet-b"]
  }
  expect_failures = [var.subnet_ids]
}

run "takes_six_brokers" {
  variables {
    brokers       = 6
    other_regions = true
  }
  assert {
    condition     = aws_msk_cluster.this.number_of_broker_nodes == 6
    error_message = "the number of brokers did not arrive"
  }
  assert {
    condition     = aws_msk_cluster.this.broker_node_group_info[0].connectivity_info[0].vpc_connectivity[0].client_authentication[0].sasl[0].iam
    error_message = "no other region can read from here"
  }
}
