# Arithmetic only. With several regions the one that may be missing is a region; with one it is a zone.
locals {
  mean_rps   = var.requests_per_day / 86400
  peak_rps   = local.mean_rps * var.peak_factor
  origin_rps = local.peak_rps * (1 - var.edge_hit_rate)
  event_rps  = local.peak_rps * var.events_per_request

  # What one region must carry while another one is away.
  carriers     = max(1, var.regions - 1)
  region_rps   = local.origin_rps / local.carriers
  region_event = local.event_rps / local.carriers
  # A single region carries it with one zone away, so it has that much more.
  zone_spare = var.regions == 1 ? var.zones / (var.zones - 1) : 1

  cores = local.region_rps * local.zone_spare * var.miss_cpu_ms * var.separation_factor / 1000 / var.utilisation
  nodes = ceil(local.cores / var.node_vcpus / var.zones) * var.zones

  pop_rps       = var.pops == 0 ? 0 : local.peak_rps / max(1, var.pops - 1)
  pop_cores     = local.pop_rps * var.hit_cpu_ms * var.separation_factor / 1000 / var.utilisation
  pop_instances = max(1, ceil(local.pop_cores / var.pop_vcpus / var.zones)) * var.zones

  broker_mib = local.region_event * local.zone_spare * var.event_bytes * 3 / 1048576
  brokers    = max(3, ceil(local.broker_mib / var.broker_mib_per_second / 3) * 3)

  # Every region holds every visitor: one that was drained comes back with the log, not with half of them.
  # A quarter stays free for copies on write while a replica catches up.
  cache_gib = var.visitors * var.bytes_per_visitor / 1073741824
  cache_shards = max(
    ceil(local.cache_gib / (var.cache_node_gib * 0.75)),
    ceil(local.region_event * local.zone_spare / (var.cache_events_per_cpu_second * var.utilisation)),
  )
}
