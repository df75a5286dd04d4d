data "aws_caller_identity" "current" {}

locals {
  bucket = split("/", var.bundles_uri)[2]
  prefix = join("/", slice(split("/", var.bundles_uri), 3, length(split("/", var.bundles_uri))))
  # Inside the network of this point of presence only.
  origin = "origin.attune.internal"
  config = templatefile("${path.module}/templates/edge.toml", { pop = var.pop, origin = local.origin })
}

resource "aws_kms_key" "this" {
  region                  = var.region
  description             = "Disks and logs of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:root" }
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Principal = { Service = "logs.${var.region}.amazonaws.com" }
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:CreateGrant"]
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling" }
      },
    ]
  })
}

module "network" {
  source  = "../network"
  name    = var.name
  region  = var.region
  cidr    = var.cidr
  zones   = var.zones
  key_arn = aws_kms_key.this.arn
  # Edges reach origins, bundles and their key through endpoints, and nothing else.
  nat = false
}

resource "aws_security_group" "entry" {
  region      = var.region
  name        = "${var.name}-entry"
  description = "Visitors"
  vpc_id      = module.network.vpc_id
}

resource "aws_security_group" "edge" {
  region      = var.region
  name        = "${var.name}-edge"
  description = "Edges"
  vpc_id      = module.network.vpc_id
}

resource "aws_security_group" "endpoints" {
  region      = var.region
  name        = "${var.name}-endpoints"
  description = "Origins and the store of secrets"
  vpc_id      = module.network.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "visitors" {
  region            = var.region
  security_group_id = aws_security_group.entry.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "Visitors over TLS"
}

# Who reaches an edge's admin port may erase visitors: only the load balancer does, for its health check.
resource "aws_vpc_security_group_egress_rule" "entry" {
  for_each                     = { pages = 8080, health = 9101 }
  region                       = var.region
  security_group_id            = aws_security_group.entry.id
  referenced_security_group_id = aws_security_group.edge.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  description                  = each.key
}

resource "aws_vpc_security_group_ingress_rule" "edge" {
  for_each                     = { pages = 8080, health = 9101 }
  region                       = var.region
  security_group_id            = aws_security_group.edge.id
  referenced_security_group_id = aws_security_group.entry.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  description                  = each.key
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  for_each                     = { origin = 9002, traces = 4317, secrets = 443 }
  region                       = var.region
  security_group_id            = aws_security_group.edge.id
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  description                  = each.key
}

data "aws_prefix_list" "s3" {
  region = var.region
  name   = "com.amazonaws.${var.region}.s3"
}

resource "aws_vpc_security_group_egress_rule" "bundles" {
  region            = var.region
  security_group_id = aws_security_group.edge.id
  prefix_list_id    = data.aws_prefix_list.s3.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "bundles"
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each                     = { origin = 9002, traces = 4317, secrets = 443 }
  region                       = var.region
  security_group_id            = aws_security_group.endpoints.id
  referenced_security_group_id = aws_security_group.edge.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  description                  = each.key
}

resource "aws_vpc_endpoint" "secrets" {
  region              = var.region
  vpc_id              = module.network.vpc_id
  service_name        = "com.amazonaws.${var.subject_key_region}.secretsmanager"
  service_region      = var.subject_key_region == var.region ? null : var.subject_key_region
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = module.network.private_subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
}

# Attune speaks gRPC in the clear between services: it stays on the cloud's private links.
resource "aws_vpc_endpoint" "origin" {
  for_each           = { for origin in var.origins : origin.region => origin.service_name }
  region             = var.region
  vpc_id             = module.network.vpc_id
  service_name       = each.value
  service_region     = each.key == var.region ? null : each.key
  vpc_endpoint_type  = "Interface"
  subnet_ids         = module.network.private_subnet_ids
  security_group_ids = [aws_security_group.endpoints.id]
  tags               = { Name = "${var.name}-origin-${each.key}" }
}

resource "aws_route53_zone" "inside" {
  name    = "attune.internal"
  comment = "Origins of ${var.name}"
  vpc {
    vpc_id     = module.network.vpc_id
    vpc_region = var.region
  }
}

resource "aws_route53_record" "origin" {
  for_each       = { for index, origin in slice(var.origins, 0, min(2, length(var.origins))) : (index == 0 ? "PRIMARY" : "SECONDARY") => origin.region }
  zone_id        = aws_route53_zone.inside.zone_id
  name           = local.origin
  type           = "A"
  set_identifier = each.value
  failover_routing_policy {
    type = each.key
  }
  alias {
    name                   = aws_vpc_endpoint.origin[each.value].dns_entry[0].dns_name
    zone_id                = aws_vpc_endpoint.origin[each.value].dns_entry[0].hosted_zone_id
    evaluate_target_health = true
  }
}

resource "aws_iam_role" "edge" {
  name = "${var.name}-edge"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "edge" {
  name = "read"
  role = aws_iam_role.edge.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = var.subject_key_arn },
      { Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::${local.bucket}/${local.prefix}/*" },
      {
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = "arn:aws:s3:::${local.bucket}"
        Condition = { StringLike = { "s3:prefix" = "${local.prefix}/*" } }
      },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = distinct([var.bundles_key_arn, var.subject_key_kms_arn]) },
    ]
  })
}

resource "aws_iam_instance_profile" "edge" {
  name = "${var.name}-edge"
  role = aws_iam_role.edge.name
}

resource "aws_launch_template" "edge" {
  region                 = var.region
  name                   = "${var.name}-edge"
  update_default_version = true
  image_id               = "resolve:ssm:${var.image_parameter}"
  instance_type          = var.instance_type
  vpc_security_group_ids = [aws_security_group.edge.id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.edge.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = 20
      encrypted             = true
      kms_key_id            = aws_kms_key.this.arn
      delete_on_termination = true
    }
  }

  user_data = base64encode(templatefile("${path.module}/templates/start.sh", {
    config        = local.config
    secret        = var.subject_key_arn
    secret_region = var.subject_key_region
    bundles       = var.bundles_uri
  }))
}

resource "aws_autoscaling_group" "edge" {
  region                    = var.region
  name                      = "${var.name}-edge"
  min_size                  = var.instances
  max_size                  = coalesce(var.max_instances, 3 * var.instances)
  vpc_zone_identifier       = module.network.private_subnet_ids
  target_group_arns         = [aws_lb_target_group.edge.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 120
  wait_for_capacity_timeout = "0"

  launch_template {
    id      = aws_launch_template.edge.id
    version = aws_launch_template.edge.latest_version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 134
      auto_rollback          = true
    }
  }

  tag {
    key                 = "Name"
    value               = "${var.name}-edge"
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_policy" "cpu" {
  region                 = var.region
  name                   = "cpu"
  autoscaling_group_name = aws_autoscaling_group.edge.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    target_value = 60
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

resource "aws_acm_certificate" "this" {
  region            = var.region
  domain_name       = var.domain
  validation_method = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

# The record that proves it is the same for every certificate of this name in one account: live/region makes it.
resource "aws_acm_certificate_validation" "this" {
  region          = var.region
  certificate_arn = aws_acm_certificate.this.arn
}

resource "aws_lb" "entry" {
  region                           = var.region
  name                             = "${var.name}-entry"
  load_balancer_type               = "network"
  subnets                          = module.network.public_subnet_ids
  security_groups                  = [aws_security_group.entry.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
}

resource "aws_lb_target_group" "edge" {
  region               = var.region
  name                 = "${var.name}-edge"
  vpc_id               = module.network.vpc_id
  port                 = 8080
  protocol             = "TCP"
  target_type          = "instance"
  deregistration_delay = 30
  health_check {
    protocol            = "HTTP"
    port                = "9101"
    path                = "/readyz"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "tls" {
  region            = var.region
  load_balancer_arn = aws_lb.entry.arn
  port              = 443
  protocol          = "TLS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn
  # An edge speaks HTTP/1.1.
  alpn_policy = "HTTP1Only"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.edge.arn
  }
}
