variable "requests_per_day" {
  description = "Pages a day, over all regions."
  type        = number
  default     = 1200000000
  validation {
    condition     = var.requests_per_day > 0
    error_message = "requests_per_day must be positive."
  }
}

variable "peak_factor" {
  description = "The busiest minute over the mean of the day."
  type        = number
  default     = 3
  validation {
    condition     = var.peak_factor >= 1
    error_message = "peak_factor must be at least 1: a peak is not below the mean."
  }
}

variable "edge_hit_rate" {
  description = "Share of pages that edges answer without an origin."
  type        = number
  default     = 0.82
  validation {
    condition     = var.edge_hit_rate >= 0 && var.edge_hit_rate < 1
    error_message = "edge_hit_rate must be at least 0 and below 1."
  }
}

variable "events_per_request" {
  description = "Events that a page brings back: one batch of impressions counts as its events."
  type        = number
  default     = 1
}

variable "regions" {
  description = "How many origin regions there are, drained ones included. One of them may be lost or drained."
  type        = number
  validation {
    condition     = var.regions >= 1 && floor(var.regions) == var.regions
    error_message = "regions must be a whole number, at least 1."
  }
}

variable "pops" {
  description = "How many points of presence there are. One of them may be lost."
  type        = number
  default     = 0
}

variable "zones" {
  description = "Zones of a region. A single region must live without one of them."
  type        = number
  default     = 3
  validation {
    condition     = var.zones >= 2
    error_message = "zones must be at least 2, or none can be lost."
  }
}

variable "utilisation" {
  description = "Share of its processors that a service may use at peak with one failure domain away."
  type        = number
  default     = 0.6
  validation {
    condition     = var.utilisation > 0 && var.utilisation <= 0.8
    error_message = "utilisation must be above 0 and at most 0.8, or latency has no room."
  }
}

variable "miss_cpu_ms" {
  description = "CPU of a page that an origin assembles, over all its services (docs/benchmarks.md: 3.25 ms in one process)."
  type        = number
  default     = 3.25
}

variable "separation_factor" {
  description = "What the same page costs in processes of their own, over one process: an allowance, not a measurement."
  type        = number
  default     = 2
}

variable "node_vcpus" {
  description = "Processors of a serving node."
  type        = number
  default     = 8
}

variable "visitors" {
  description = "Visitors whose state is kept."
  type        = number
  default     = 28000000
}

variable "bytes_per_visitor" {
  description = "A visitor's state in Redis (docs/streaming.md: 951 on average)."
  type        = number
  default     = 951
}

variable "cache_node_gib" {
  description = "Memory of a cache node."
  type        = number
  default     = 52
}

variable "event_bytes" {
  description = "An event on the log with its headers."
  type        = number
  default     = 400
}

variable "broker_mib_per_second" {
  description = "What one broker takes in, copies included: a quarter of what its vendor names, until it is measured."
  type        = number
  default     = 12
}

variable "hit_cpu_ms" {
  description = "CPU of a page that an edge answers by itself (docs/benchmarks.md: 18.9 us)."
  type        = number
  default     = 0.0189
}

variable "pop_vcpus" {
  description = "Processors of an edge's machine."
  type        = number
  default     = 2
}

variable "cache_events_per_cpu_second" {
  description = "Events that Redis takes in a second of its one processor (docs/streaming.md: 64,000)."
  type        = number
  default     = 64000
}
