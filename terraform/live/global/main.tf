data "terraform_remote_state" "region" {
  backend = "s3"
  config = {
    bucket = var.state_bucket
    key    = "${var.name}/region.tfstate"
    region = var.state_region
  }
}

locals {
  entry = data.terraform_remote_state.region.outputs.entry
  open  = [for name, region in var.regions : name if region.dial > 0]
  # What a point of presence asks: its own order without the drained ones.
  origins = { for name, pop in var.pops : name => [for origin in pop.origins : origin if contains(local.open, origin)] }
  # An accelerator has one group a region: an origin's own edges and the points of presence beside it share it and its dial.
  groups = distinct(concat(keys(var.regions), [for pop in var.pops : pop.region]))
}

resource "terraform_data" "room" {
  input = local.open
  lifecycle {
    precondition {
      condition     = length(local.open) >= 1
      error_message = "All regions are drained."
    }
    precondition {
      condition     = var.accept_overload || length(local.open) >= length(var.regions) - 1
      error_message = "More than one region is drained, and the others are sized for the loss of one: set accept_overload if they shall shed load."
    }
    precondition {
      condition     = alltrue([for origins in local.origins : length(origins) >= 1])
      error_message = "A point of presence names drained regions only."
    }
  }
}

module "pop" {
  source              = "../../modules/edge-pop"
  for_each            = var.pops
  name                = "${var.name}-${each.key}"
  pop                 = each.key
  region              = each.value.region
  zones               = each.value.zones
  domain              = var.domain
  instances           = module.sizing.pop_instances
  bundles_uri         = local.entry[local.home].bundles_uri
  bundles_key_arn     = local.entry[local.home].key_arn
  subject_key_arn     = local.entry[local.home].subject_key_arn
  subject_key_kms_arn = local.entry[local.home].key_arn
  subject_key_region  = local.home
  origins             = [for origin in local.origins[each.key] : { region = origin, service_name = local.entry[origin].service_name }]
}

module "entry" {
  source           = "../../modules/global-entry"
  name             = var.name
  domain           = var.domain
  zone_id          = var.zone_id
  flow_logs_bucket = local.entry[local.home].bucket
  regions = { for group in local.groups : group => {
    dial = try(var.regions[group].dial, 100)
    endpoints = merge(
      contains(keys(var.regions), group) ? { origin = { arn = local.entry[group].visitors_arn, weight = 128 } } : {},
      { for name, pop in var.pops : name => { arn = module.pop[name].entry_arn, weight = floor(pop.dial * 1.28) } if pop.region == group },
    )
  } }
  depends_on = [terraform_data.room]
}
