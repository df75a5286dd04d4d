module "origin" {
  source           = "../../modules/origin-region"
  for_each         = var.regions
  name             = var.name
  region           = each.key
  short            = each.value.short
  cidr             = each.value.cidr
  zones            = each.value.zones
  gpu              = each.value.gpu
  domain           = var.domain
  image_repository = var.image_repository
  access           = var.access
  alert_emails     = var.alert_emails
  other_regions    = var.copy_topics && each.value.home
  pop_regions      = [for pop in var.pops : pop.region]
  sizing = {
    nodes        = module.sizing.nodes
    brokers      = module.sizing.brokers
    cache_shards = module.sizing.cache_shards
  }
}

locals {
  others = { for name, region in var.regions : name => module.origin[name] if !region.home }
}

# One record proves the certificates of all regions and points of presence.
resource "aws_route53_record" "certificate" {
  zone_id = var.zone_id
  name    = module.origin[local.home].certificate_record.resource_record_name
  type    = module.origin[local.home].certificate_record.resource_record_type
  records = [module.origin[local.home].certificate_record.resource_record_value]
  ttl     = 300
}

module "bundle_copies" {
  source = "../../modules/bundle-copies"
  count  = length(local.others) > 0 ? 1 : 0
  name   = var.name
  home   = merge({ region = local.home }, module.origin[local.home].entry)
  copies = { for name, region in local.others : name => region.entry }
}

module "topic_copies" {
  source    = "../../modules/topic-copies"
  count     = var.copy_topics && length(local.others) > 0 ? 1 : 0
  name      = var.name
  home      = merge({ region = local.home }, module.origin[local.home].brokers)
  receivers = { for name, region in local.others : name => region.brokers }
}
