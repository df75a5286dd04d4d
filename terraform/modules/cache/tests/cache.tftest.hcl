mock_provider "aws" {
  mock_resource "aws_elasticache_replication_group" {
    defaults = { configuration_endpoint_address = "cluster.example", primary_endpoint_address = "primary.example" }
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

run "forgets_nothing_and_speaks_tls" {
  assert {
    condition     = contains([for parameter in aws_elasticache_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "maxmemory-policy=noeviction")
    error_message = "a full store would throw visitors out"
  }
  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_mode == "required" && aws_elasticache_replication_group.this.at_rest_encryption_enabled == "true"
    error_message = "state travels or lies in the clear"
  }
  assert {
    condition     = aws_elasticache_replication_group.this.multi_az_enabled && aws_elasticache_replication_group.this.automatic_failover_enabled
    error_message = "a lost zone takes a shard with it"
  }
  assert {
    condition     = output.url == "rediss://primary.example:6379"
    error_message = "a single shard is not reached at its primary, over TLS"
  }
}

run "several_shards_are_a_cluster" {
  variables {
    shards = 3
  }
  assert {
    condition     = output.url == "rediss-cluster://cluster.example:6379"
    error_message = "several shards are not reached as a cluster"
  }
  assert {
    condition     = contains([for parameter in aws_elasticache_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "cluster-enabled=yes")
    error_message = "several shards do not form a cluster"
  }
}

run "refuses_a_shard_without_a_copy" {
  command = plan
  variables {
    replicas = 0
  }
  expect_failures = [var.replicas]
}

run "refuses_a_long_name" {
  command = plan
  variables {
    name = "attune-with-a-name-that-is-longer-than-forty-characters"
  }
  expect_failures = [var.name]
}

run "refuses_no_shard" {
  command = plan
  variables {
    shards = 0
  }
  expect_failures = [var.shards]
}
