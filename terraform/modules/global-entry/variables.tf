variable "name" {
  description = "Name of the entry."
  type        = string
}

variable "domain" {
  description = "Name under which visitors ask."
  type        = string
}

variable "zone_id" {
  description = "Hosted zone of that name."
  type        = string
}

variable "regions" {
  description = "What visitors reach in each region, and the dial: the share of the visitors nearest to it that come in, in percent. 0 drains it."
  type = map(object({
    dial      = number
    endpoints = map(object({ arn = string, weight = number }))
  }))
  validation {
    condition     = alltrue([for region in var.regions : region.dial >= 0 && region.dial <= 100])
    error_message = "a dial must be 0 to 100."
  }
  validation {
    condition     = anytrue([for region in var.regions : region.dial > 0])
    error_message = "all regions are drained: there must be one whose dial is above 0."
  }
  validation {
    condition     = alltrue(flatten([for region in var.regions : [for endpoint in region.endpoints : endpoint.weight >= 0 && endpoint.weight <= 255]]))
    error_message = "a weight must be 0 to 255."
  }
}

variable "flow_logs_bucket" {
  description = "Bucket of the flow logs."
  type        = string
}
