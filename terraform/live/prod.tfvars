# One file for all layers: terraform -chdir=live/LAYER apply -var-file=../prod.tfvars
name             = "attune-prod"
domain           = "attune.example.com"
zone_id          = "Z0123456789ABCDEFGHIJ"
image_repository = "registry.example.com/attune"
state_bucket     = "attune-prod-state"
state_region     = "us-east-1"

# dial: share of the visitors nearest to a region that come in, in percent. 0 drains it; one region at a time.
# home: where operators write items and publish models; one region.
regions = {
  us-east-1      = { short = "use1", cidr = "10.10.0.0/16", dial = 100, home = true }
  eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16", dial = 100 }
  ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16", dial = 100 }
}

# origins: regions to ask, the nearest first. Drained ones are passed over.
pops = {
  fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1", "ap-southeast-1"] }
  sao = { region = "sa-east-1", origins = ["us-east-1", "eu-west-1", "ap-southeast-1"] }
  tyo = { region = "ap-northeast-1", origins = ["ap-southeast-1", "us-east-1", "eu-west-1"], zones = ["a", "c", "d"] }
}
