# The smallest that loses nothing with a zone: one region, its own edges, no points of presence. A million pages a day.
locals {
  region = "us-east-1"
}

module "sizing" {
  source           = "../../modules/sizing"
  regions          = 1
  requests_per_day = 1000000
  visitors         = 100000
}

module "origin" {
  source           = "../../modules/origin-region"
  name             = var.name
  region           = local.region
  short            = "use1"
  cidr             = "10.10.0.0/16"
  domain           = var.domain
  image_repository = var.image_repository
  sizing = {
    nodes        = module.sizing.nodes
    brokers      = module.sizing.brokers
    cache_shards = module.sizing.cache_shards
  }
}

resource "aws_route53_record" "certificate" {
  zone_id = var.zone_id
  name    = module.origin.certificate_record.resource_record_name
  type    = module.origin.certificate_record.resource_record_type
  records = [module.origin.certificate_record.resource_record_value]
  ttl     = 300
}

module "entry" {
  source           = "../../modules/global-entry"
  name             = var.name
  domain           = var.domain
  zone_id          = var.zone_id
  flow_logs_bucket = module.origin.entry.bucket
  regions = {
    (local.region) = { dial = 100, endpoints = { origin = { arn = module.origin.entry.visitors_arn, weight = 128 } } }
  }
}
