resource "aws_iam_role" "replicator" {
  name = "${var.name}-replicator"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "kafka.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "replicator" {
  role       = aws_iam_role.replicator.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSMSKReplicatorExecutionRole"
}

# Lets the replicators of other regions in.
resource "aws_msk_cluster_policy" "home" {
  region      = var.home.region
  cluster_arn = var.home.cluster_arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "kafka.amazonaws.com" }
      Action    = ["kafka:CreateVpcConnection", "kafka:GetBootstrapBrokers", "kafka:DescribeClusterV2"]
      Resource  = var.home.cluster_arn
    }]
  })
}

# A replicator lives where it writes.
resource "aws_msk_replicator" "this" {
  for_each                   = var.receivers
  region                     = each.key
  replicator_name            = "${var.name}-${each.key}"
  description                = "Topics of ${var.home.region} that must be the same everywhere"
  service_execution_role_arn = aws_iam_role.replicator.arn

  kafka_cluster {
    amazon_msk_cluster {
      msk_cluster_arn = var.home.cluster_arn
    }
    vpc_config {
      subnet_ids          = var.home.subnet_ids
      security_groups_ids = [var.home.security_group_id]
    }
  }

  kafka_cluster {
    amazon_msk_cluster {
      msk_cluster_arn = each.value.cluster_arn
    }
    vpc_config {
      subnet_ids          = each.value.subnet_ids
      security_groups_ids = [each.value.security_group_id]
    }
  }

  replication_info_list {
    source_kafka_cluster_arn = var.home.cluster_arn
    target_kafka_cluster_arn = each.value.cluster_arn
    target_compression_type  = "LZ4"

    topic_replication {
      topics_to_replicate                  = var.topics
      copy_topic_configurations            = true
      copy_access_control_lists_for_topics = false
      detect_and_copy_new_topics           = false
      topic_name_configuration {
        type = "IDENTICAL"
      }
      starting_position {
        type = "EARLIEST"
      }
    }

    consumer_group_replication {
      consumer_groups_to_replicate        = [".*"]
      detect_and_copy_new_consumer_groups = false
      synchronise_consumer_group_offsets  = false
    }
  }

  depends_on = [aws_msk_cluster_policy.home, aws_iam_role_policy_attachment.replicator]
}
