# Two ways in: visitors to the region's own edges, and points of presence to its origin. Pods are registered by the cluster
# (live/platform), and only while they are ready: the checks below need not ask an admin port, which would have to be open.

resource "aws_security_group" "visitors" {
  region      = var.region
  name        = "${local.name}-visitors"
  description = "Visitors"
  vpc_id      = module.network.vpc_id
}

resource "aws_security_group" "pops" {
  region      = var.region
  name        = "${local.name}-pops"
  description = "Points of presence"
  vpc_id      = module.network.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "visitors" {
  region            = var.region
  security_group_id = aws_security_group.visitors.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "Visitors over TLS"
}

locals {
  ways = {
    pages  = { from = aws_security_group.visitors.id, port = 8080 }
    origin = { from = aws_security_group.pops.id, port = 9002 }
    traces = { from = aws_security_group.pops.id, port = 4317 }
  }
}

resource "aws_vpc_security_group_egress_rule" "ways" {
  for_each                     = local.ways
  region                       = var.region
  security_group_id            = each.value.from
  referenced_security_group_id = module.cluster.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = each.key
}

resource "aws_vpc_security_group_ingress_rule" "ways" {
  for_each                     = local.ways
  region                       = var.region
  security_group_id            = module.cluster.security_group_id
  referenced_security_group_id = each.value.from
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = each.key
}

resource "aws_acm_certificate" "this" {
  region            = var.region
  domain_name       = var.domain
  validation_method = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

# Waits until the record that live/region makes once for all regions was seen.
resource "aws_acm_certificate_validation" "this" {
  region          = var.region
  certificate_arn = aws_acm_certificate.this.arn
}

resource "aws_lb" "visitors" {
  region                           = var.region
  name                             = "${local.name}-visitors"
  load_balancer_type               = "network"
  subnets                          = module.network.public_subnet_ids
  security_groups                  = [aws_security_group.visitors.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
}

# In subnets without pods, so that a policy can tell its addresses from theirs.
resource "aws_lb" "pops" {
  region                                                       = var.region
  name                                                         = "${local.name}-pops"
  load_balancer_type                                           = "network"
  internal                                                     = true
  subnets                                                      = module.network.data_subnet_ids
  security_groups                                              = [aws_security_group.pops.id]
  enforce_security_group_inbound_rules_on_private_link_traffic = "off"
  enable_cross_zone_load_balancing                             = true
  enable_deletion_protection                                   = true
}

resource "aws_lb_target_group" "ways" {
  for_each             = local.ways
  region               = var.region
  name                 = "${local.name}-${each.key}"
  vpc_id               = module.network.vpc_id
  port                 = each.value.port
  protocol             = "TCP"
  target_type          = "ip"
  preserve_client_ip   = "false"
  deregistration_delay = 30
  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "pages" {
  region            = var.region
  load_balancer_arn = aws_lb.visitors.arn
  port              = 443
  protocol          = "TLS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn
  # An edge speaks HTTP/1.1.
  alpn_policy = "HTTP1Only"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ways["pages"].arn
  }
}

resource "aws_lb_listener" "pops" {
  for_each          = { origin = 9002, traces = 4317 }
  region            = var.region
  load_balancer_arn = aws_lb.pops.arn
  port              = each.value
  protocol          = "TCP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ways[each.key].arn
  }
}

resource "aws_vpc_endpoint_service" "origin" {
  region                     = var.region
  acceptance_required        = false
  allowed_principals         = ["arn:aws:iam::${local.account}:root"]
  network_load_balancer_arns = [aws_lb.pops.arn]
  supported_regions          = distinct(concat([var.region], var.pop_regions))
  tags                       = { Name = "${local.name}-origin" }
}
