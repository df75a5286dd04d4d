variable "name" {
  description = "Name of the environment, such as attune-prod."
  type        = string
}

variable "domain" {
  description = "Name under which visitors ask."
  type        = string
}

variable "zone_id" {
  description = "Hosted zone of that name. It must be there."
  type        = string
}

variable "regions" {
  description = "Origin regions. dial 0 drains one, home is where operators write; short goes into names, cidr must be nobody else's."
  type = map(object({
    short = string
    cidr  = string
    dial  = optional(number, 100)
    home  = optional(bool, false)
    zones = optional(list(string), ["a", "b", "c"])
    gpu   = optional(object({ instance_types = optional(list(string), ["g6.xlarge"]), min_size = optional(number, 0), max_size = optional(number, 3) }))
  }))
  validation {
    condition     = alltrue([for region in var.regions : region.dial >= 0 && region.dial <= 100])
    error_message = "a dial must be 0 to 100."
  }
  validation {
    condition     = length([for region in var.regions : region if region.home]) == 1
    error_message = "exactly one region must be home."
  }
  validation {
    condition     = length(distinct([for region in var.regions : region.cidr])) == length(var.regions) && length(distinct([for region in var.regions : region.short])) == length(var.regions)
    error_message = "two regions have the same cidr or short name."
  }
}

variable "pops" {
  description = "Points of presence, by the name that metrics give them. origins: regions to ask, the nearest first; dial 0 takes one out."
  type = map(object({
    region  = string
    origins = list(string)
    dial    = optional(number, 100)
    zones   = optional(list(string), ["a", "b", "c"])
  }))
  default = {}
  validation {
    condition     = alltrue([for pop in var.pops : pop.dial >= 0 && pop.dial <= 100])
    error_message = "a dial must be 0 to 100."
  }
  validation {
    condition     = alltrue(flatten([for pop in var.pops : [for origin in pop.origins : contains(keys(var.regions), origin)]]))
    error_message = "a point of presence asks a region that is not in regions."
  }
  validation {
    condition     = alltrue([for pop in var.pops : length(pop.origins) >= min(2, length(var.regions))])
    error_message = "a point of presence must name two regions, so that one may be drained."
  }
}

variable "load" {
  description = "What the platform is sized for; see modules/sizing for each."
  type = object({
    requests_per_day   = optional(number, 1200000000)
    peak_factor        = optional(number, 3)
    edge_hit_rate      = optional(number, 0.82)
    events_per_request = optional(number, 1)
    visitors           = optional(number, 28000000)
  })
  default = {}
}

locals {
  home = one([for name, region in var.regions : name if region.home])
}

module "sizing" {
  source             = "../../modules/sizing"
  regions            = length(var.regions)
  pops               = length(var.pops)
  requests_per_day   = var.load.requests_per_day
  peak_factor        = var.load.peak_factor
  edge_hit_rate      = var.load.edge_hit_rate
  events_per_request = var.load.events_per_request
  visitors           = var.load.visitors
}

variable "state_bucket" {
  description = "Bucket of the states."
  type        = string
}

variable "state_region" {
  description = "Region of that bucket."
  type        = string
}

variable "accept_overload" {
  description = "Drain more than the platform has room for: with two of three regions away the third sheds load."
  type        = bool
  default     = false
}
