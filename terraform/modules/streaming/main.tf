resource "aws_security_group" "brokers" {
  region      = var.region
  name        = "${var.name}-brokers"
  description = "Kafka brokers of Attune"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-brokers" }
}

# 9096 is SCRAM over TLS, 9098 the vendor's IAM over TLS, which its replicator uses. The ports without TLS stay closed.
resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each                     = var.clients
  region                       = var.region
  security_group_id            = aws_security_group.brokers.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9096
  to_port                      = 9096
  description                  = "Attune from ${each.key}"
}

resource "aws_vpc_security_group_ingress_rule" "replicator" {
  region                       = var.region
  security_group_id            = aws_security_group.brokers.id
  referenced_security_group_id = aws_security_group.brokers.id
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
  description                  = "Copying between regions"
}

resource "aws_vpc_security_group_egress_rule" "replicator" {
  region                       = var.region
  security_group_id            = aws_security_group.brokers.id
  referenced_security_group_id = aws_security_group.brokers.id
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
  description                  = "Copying between regions"
}

resource "aws_cloudwatch_log_group" "brokers" {
  region            = var.region
  name              = "/attune/${var.name}/brokers"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

resource "aws_msk_configuration" "this" {
  region         = var.region
  name           = var.name
  kafka_versions = [var.kafka_version]
  # The platform makes its topics itself and knows how many partitions they need.
  server_properties = join("\n", [
    "auto.create.topics.enable=false",
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "unclean.leader.election.enable=false",
    "offsets.topic.replication.factor=3",
    "transaction.state.log.replication.factor=3",
    "transaction.state.log.min.isr=2",
  ])
}

resource "aws_msk_cluster" "this" {
  region                 = var.region
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = var.brokers
  enhanced_monitoring    = "PER_TOPIC_PER_PARTITION"

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  broker_node_group_info {
    instance_type   = var.broker_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.brokers.id]
    storage_info {
      ebs_storage_info {
        volume_size = var.disk_gib
      }
    }
    connectivity_info {
      public_access {
        type = "DISABLED"
      }
      dynamic "vpc_connectivity" {
        for_each = var.other_regions ? [1] : []
        content {
          client_authentication {
            sasl {
              iam = true
            }
          }
        }
      }
    }
  }

  client_authentication {
    unauthenticated = false
    sasl {
      scram = true
      iam   = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = var.key_arn
    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  open_monitoring {
    prometheus {
      jmx_exporter {
        enabled_in_broker = true
      }
      node_exporter {
        enabled_in_broker = true
      }
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.brokers.name
      }
    }
  }

  lifecycle {
    # Disks grow by themselves and never shrink.
    ignore_changes = [broker_node_group_info[0].storage_info[0].ebs_storage_info[0].volume_size]
  }
}

resource "aws_appautoscaling_target" "disk" {
  region             = var.region
  service_namespace  = "kafka"
  scalable_dimension = "kafka:broker-storage:VolumeSize"
  resource_id        = aws_msk_cluster.this.arn
  min_capacity       = 1
  max_capacity       = var.max_disk_gib
}

resource "aws_appautoscaling_policy" "disk" {
  region             = var.region
  name               = "${var.name}-disk"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.disk.service_namespace
  scalable_dimension = aws_appautoscaling_target.disk.scalable_dimension
  resource_id        = aws_appautoscaling_target.disk.resource_id
  target_tracking_scaling_policy_configuration {
    target_value     = 60
    disable_scale_in = true
    predefined_metric_specification {
      predefined_metric_type = "KafkaBrokerStorageUtilization"
    }
  }
}

# The place of the password. Its value is put there by hand: Terraform neither knows nor keeps it.
resource "aws_secretsmanager_secret" "client" {
  region      = var.region
  name        = "AmazonMSK_${var.name}"
  description = "Kafka user of Attune, as {\"username\": \"${var.username}\", \"password\": ...}"
  kms_key_id  = var.key_arn
}

resource "aws_msk_single_scram_secret_association" "client" {
  region      = var.region
  cluster_arn = aws_msk_cluster.this.arn
  secret_arn  = aws_secretsmanager_secret.client.arn
}
