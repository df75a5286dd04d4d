data "aws_caller_identity" "current" {}

resource "aws_cloudwatch_log_group" "prometheus" {
  region            = var.region
  name              = "/attune/${var.name}/prometheus"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

resource "aws_prometheus_workspace" "this" {
  region      = var.region
  alias       = var.name
  kms_key_arn = var.key_arn
  logging_configuration {
    log_group_arn = "${aws_cloudwatch_log_group.prometheus.arn}:*"
  }
}

resource "aws_sns_topic" "alerts" {
  region            = var.region
  name              = "${var.name}-alerts"
  kms_master_key_id = var.key_arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = toset(var.alert_emails)
  region    = var.region
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_security_group" "search" {
  region      = var.region
  name        = "${var.name}-search"
  description = "Logs and traces of Attune"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-search" }
}

resource "aws_vpc_security_group_ingress_rule" "search" {
  for_each                     = var.clients
  region                       = var.region
  security_group_id            = aws_security_group.search.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  description                  = "Collector from ${each.key}"
}

resource "aws_cloudwatch_log_group" "search" {
  for_each          = toset(["ES_APPLICATION_LOGS", "INDEX_SLOW_LOGS", "SEARCH_SLOW_LOGS", "AUDIT_LOGS"])
  region            = var.region
  name              = "/attune/${var.name}/search/${lower(each.key)}"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

resource "aws_cloudwatch_log_resource_policy" "search" {
  region      = var.region
  policy_name = "${var.name}-search"
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["logs:PutLogEvents", "logs:CreateLogStream"]
      Principal = { Service = "es.amazonaws.com" }
      Resource  = [for group in aws_cloudwatch_log_group.search : "${group.arn}:*"]
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_opensearch_domain" "this" {
  region         = var.region
  domain_name    = "${var.name}-search"
  engine_version = "OpenSearch_2.19"

  cluster_config {
    instance_type            = var.search_type
    instance_count           = 3
    dedicated_master_enabled = true
    dedicated_master_type    = "m7g.large.search"
    dedicated_master_count   = 3
    zone_awareness_enabled   = true
    zone_awareness_config {
      availability_zone_count = 3
    }
  }

  ebs_options {
    ebs_enabled = true
    volume_type = "gp3"
    volume_size = var.search_gib
  }

  vpc_options {
    subnet_ids         = var.subnet_ids
    security_group_ids = [aws_security_group.search.id]
  }

  encrypt_at_rest {
    enabled    = true
    kms_key_id = var.key_arn
  }

  node_to_node_encryption {
    enabled = true
  }

  domain_endpoint_options {
    enforce_https       = true
    tls_security_policy = "Policy-Min-TLS-1-2-PFS-2023-10"
  }

  # The Collector's role is the domain's only user: there is no password to keep.
  advanced_security_options {
    enabled                        = true
    internal_user_database_enabled = false
    master_user_options {
      master_user_arn = aws_iam_role.collector.arn
    }
  }

  access_policies = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "es:ESHttp*"
      Principal = { AWS = aws_iam_role.collector.arn }
      Resource  = "arn:aws:es:${var.region}:${data.aws_caller_identity.current.account_id}:domain/${var.name}-search/*"
    }]
  })

  dynamic "log_publishing_options" {
    for_each = aws_cloudwatch_log_group.search
    content {
      log_type                 = log_publishing_options.key
      cloudwatch_log_group_arn = log_publishing_options.value.arn
    }
  }

  depends_on = [aws_cloudwatch_log_resource_policy.search]
}

resource "aws_iam_role" "collector" {
  name = "${var.name}-collector"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { Service = "pods.eks.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "collector" {
  name = "write"
  role = aws_iam_role.collector.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "aps:RemoteWrite", Resource = aws_prometheus_workspace.this.arn },
      { Effect = "Allow", Action = "sns:Publish", Resource = aws_sns_topic.alerts.arn },
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = var.key_arn },
    ]
  })
}

resource "aws_eks_pod_identity_association" "collector" {
  region          = var.region
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = "attune-collector"
  role_arn        = aws_iam_role.collector.arn
}
