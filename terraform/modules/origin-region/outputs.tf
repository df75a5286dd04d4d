# Names of secrets in the cluster: live/platform makes their places, operators put the values there.
locals {
  secrets = { subject = "attune-subject-key", log = "attune-log-key", kafka = "attune-kafka", redis = "attune-redis" }

  helm_values = {
    region = var.region
    image  = { repository = var.image_repository }
    kafka = {
      brokers     = module.streaming.brokers
      replication = 3
      tls         = { enabled = true }
      sasl = {
        mechanism      = "SCRAM-SHA-512"
        username       = module.streaming.username
        existingSecret = local.secrets.kafka
        key            = "password"
      }
    }
    redis      = { url = module.cache.url, existingSecret = local.secrets.redis, key = "password" }
    subjectKey = { existingSecret = local.secrets.subject, key = "subject.key" }
    logKey     = { existingSecret = local.secrets.log, key = "log.key" }
    telemetry  = { otlp = module.observability.otlp }
    defaults = {
      nodeSelector      = { "attune.io/pool" = "serving" }
      priorityClassName = "attune-serving"
      spread            = { zones = "DoNotSchedule", hosts = "ScheduleAnyway" }
    }
    services = { retrieval = module.vector.scheduling }
    networkPolicy = {
      visitors      = [for cidr in module.network.public_cidrs : { ipBlock = { cidr = cidr } }]
      externalEdges = [for cidr in module.network.data_cidrs : { ipBlock = { cidr = cidr } }]
      engines = [
        { to = [for cidr in module.network.data_cidrs : { ipBlock = { cidr = cidr } }], ports = [9096, 6379] },
        { to = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "attune-observability" } } }], ports = [4317] },
      ]
    }
  }
}

output "helm_values" {
  description = "Values of the chart for this region; add the model and, for what is yours, your own."
  value       = merge(local.helm_values, var.gpu == null ? {} : { llmServer = module.gpu_pool[0].scheduling })
}

output "entry" {
  description = "What live/global needs of this region."
  value = {
    visitors_arn    = aws_lb.visitors.arn
    service_name    = aws_vpc_endpoint_service.origin.service_name
    bundles_uri     = module.lake.bundles_uri
    bucket          = module.lake.bucket
    bucket_arn      = module.lake.bucket_arn
    key_arn         = aws_kms_key.this.arn
    subject_key_arn = aws_secretsmanager_secret.key["subject"].arn
  }
}

output "certificate_record" {
  description = "The record that proves the domain's certificates, in every region the same."
  value       = tolist(aws_acm_certificate.this.domain_validation_options)[0]
}

output "platform" {
  description = "Variables of live/platform for this region."
  value = {
    namespace     = var.namespace
    target_groups = { for way, group in aws_lb_target_group.ways : way => group.arn }
  }
}

output "brokers" {
  description = "What a replicator needs of this region's brokers."
  value = {
    cluster_arn       = module.streaming.cluster_arn
    subnet_ids        = module.network.data_subnet_ids
    security_group_id = module.streaming.security_group_id
  }
}

output "sizing" {
  description = "What was made."
  value       = var.sizing
}

output "by_hand" {
  description = "Secrets whose values an operator puts there, and where the cache's password is set as well."
  value = {
    secrets           = concat([for key in aws_secretsmanager_secret.key : key.name], [module.streaming.secret_name, module.cache.secret_name])
    replication_group = module.cache.replication_group_id
  }
}
