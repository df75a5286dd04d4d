# Three regions and three points of presence in one state, to read in one piece. live/ has the same in three layers.
locals {
  home = "us-east-1"
  regions = {
    us-east-1      = { short = "use1", cidr = "10.10.0.0/16" }
    eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16" }
    ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16" }
  }
  pops = {
    fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1", "ap-southeast-1"] }
    sao = { region = "sa-east-1", origins = ["us-east-1", "eu-west-1", "ap-southeast-1"] }
    syd = { region = "ap-southeast-2", origins = ["ap-southeast-1", "us-east-1", "eu-west-1"] }
  }
}

module "sizing" {
  source  = "../../modules/sizing"
  regions = length(local.regions)
  pops    = length(local.pops)
}

module "origin" {
  source           = "../../modules/origin-region"
  for_each         = local.regions
  name             = var.name
  region           = each.key
  short            = each.value.short
  cidr             = each.value.cidr
  domain           = var.domain
  image_repository = var.image_repository
  pop_regions      = [for pop in local.pops : pop.region]
  sizing = {
    nodes        = module.sizing.nodes
    brokers      = module.sizing.brokers
    cache_shards = module.sizing.cache_shards
  }
}

resource "aws_route53_record" "certificate" {
  zone_id = var.zone_id
  name    = module.origin[local.home].certificate_record.resource_record_name
  type    = module.origin[local.home].certificate_record.resource_record_type
  records = [module.origin[local.home].certificate_record.resource_record_value]
  ttl     = 300
}

module "bundle_copies" {
  source = "../../modules/bundle-copies"
  name   = var.name
  home   = merge({ region = local.home }, module.origin[local.home].entry)
  copies = { for name, region in module.origin : name => region.entry if name != local.home }
}

module "pop" {
  source              = "../../modules/edge-pop"
  for_each            = local.pops
  name                = "${var.name}-${each.key}"
  pop                 = each.key
  region              = each.value.region
  domain              = var.domain
  instances           = module.sizing.pop_instances
  bundles_uri         = module.origin[local.home].entry.bundles_uri
  bundles_key_arn     = module.origin[local.home].entry.key_arn
  subject_key_arn     = module.origin[local.home].entry.subject_key_arn
  subject_key_kms_arn = module.origin[local.home].entry.key_arn
  subject_key_region  = local.home
  origins = [for origin in each.value.origins :
    { region = origin, service_name = module.origin[origin].entry.service_name } if origin != var.drained
  ]
}

module "entry" {
  source           = "../../modules/global-entry"
  name             = var.name
  domain           = var.domain
  zone_id          = var.zone_id
  flow_logs_bucket = module.origin[local.home].entry.bucket
  regions = merge(
    { for name, region in module.origin : name => {
      dial      = name == var.drained ? 0 : 100
      endpoints = { origin = { arn = region.entry.visitors_arn, weight = 128 } }
    } },
    { for name, pop in local.pops : pop.region => {
      dial      = 100
      endpoints = { (name) = { arn = module.pop[name].entry_arn, weight = 128 } }
    } },
  )
}
