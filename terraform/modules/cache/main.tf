locals {
  # With one shard clients need not know of a cluster.
  cluster = var.shards > 1
}

resource "aws_security_group" "this" {
  region      = var.region
  name        = "${var.name}-cache"
  description = "Feature store of Attune"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-cache" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each                     = var.clients
  region                       = var.region
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
  description                  = "Attune from ${each.key}"
}

resource "aws_elasticache_subnet_group" "this" {
  region     = var.region
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_parameter_group" "this" {
  region = var.region
  name   = var.name
  family = "valkey8"

  parameter {
    name  = "cluster-enabled"
    value = local.cluster ? "yes" : "no"
  }

  # State is not a cache: a full store must refuse, not forget.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_cloudwatch_log_group" "slow" {
  region            = var.region
  name              = "/attune/${var.name}/cache-slow"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

resource "aws_elasticache_replication_group" "this" {
  region                     = var.region
  replication_group_id       = var.name
  description                = "Visitors' states and posteriors of Attune"
  engine                     = "valkey"
  engine_version             = "8.0"
  node_type                  = var.node_type
  num_node_groups            = var.shards
  replicas_per_node_group    = var.replicas
  automatic_failover_enabled = true
  multi_az_enabled           = true
  port                       = 6379
  parameter_group_name       = aws_elasticache_parameter_group.this.name
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.this.id]
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  kms_key_id                 = var.key_arn
  snapshot_retention_limit   = 3
  apply_immediately          = false

  log_delivery_configuration {
    destination      = aws_cloudwatch_log_group.slow.name
    destination_type = "cloudwatch-logs"
    log_format       = "json"
    log_type         = "slow-log"
  }

  lifecycle {
    # Set by hand, so that it is in no state file.
    ignore_changes = [auth_token, auth_token_update_strategy]
  }
}

# The place of the password. Its value is put there by hand: Terraform neither knows nor keeps it.
resource "aws_secretsmanager_secret" "client" {
  region      = var.region
  name        = "${var.name}-cache"
  description = "Password of Attune's feature store"
  kms_key_id  = var.key_arn
}
